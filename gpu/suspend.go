package gpu

import (
	"os"
	"path/filepath"
	"strings"
)

// VendorNVIDIA is NVIDIA's PCI vendor number.
const VendorNVIDIA = 0x10de

// RuntimeSuspended reports whether the kernel's runtime power management has powered down the PCI device
// at an address like 0000:01:00.0. Reading this does not wake it. sysRoot is /sys but for tests.
func RuntimeSuspended(sysRoot, pci string) bool {
	b, err := os.ReadFile(filepath.Join(sysRoot, "bus/pci/devices", pci, "power/runtime_status")) //nolint:gosec // a device of the system's
	return err == nil && strings.TrimSpace(string(b)) == "suspended"
}

// AllSuspended reports whether the machine has graphics cards of a PCI vendor and all of them are powered
// down. Connecting to NVIDIA's driver wakes its cards, so this is asked before.
func AllSuspended(sysRoot string, vendor int64) bool {
	dirs, err := filepath.Glob(filepath.Join(sysRoot, "bus/pci/devices/*"))
	if err != nil {
		return false
	}
	found := false
	for _, dir := range dirs {
		const display = 0x03
		v, errV := SysInt(filepath.Join(dir, "vendor"))
		class, errC := SysInt(filepath.Join(dir, "class"))
		if errV != nil || errC != nil || v != vendor || class>>16 != display {
			continue
		}
		if !RuntimeSuspended(sysRoot, filepath.Base(dir)) {
			return false
		}
		found = true
	}
	return found
}
