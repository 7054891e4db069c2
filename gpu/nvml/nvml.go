//go:build cgo && linux

package nvml

import (
	"errors"
	"fmt"
	"strings"
	"sync"

	"github.com/NVIDIA/go-nvml/pkg/nvml"

	"wattline/gpu"
)

// Built reports whether this build can talk to the library.
const Built = true

// Source lists and opens the cards of the driver.
type Source struct {
	lib   nvml.Interface
	clock gpu.Clock

	// mu guards the library's life: it is shut down and initialised again when a device has to be
	// found anew, which makes all handles invalid.
	mu         sync.Mutex
	up         bool
	generation int
}

// New loads the library and connects to the driver. That wakes a card that is powered down: see
// gpu.RuntimeSuspended.
func New(clock gpu.Clock) (gpu.Source, error) {
	s, err := newSource(nvml.New(), clock)
	if err != nil {
		return nil, err
	}
	return s, nil
}

// newSource connects to lib.
func newSource(lib nvml.Interface, clock gpu.Clock) (*Source, error) {
	s := &Source{lib: lib, clock: clock}
	if err := s.connect(); err != nil {
		return nil, err
	}
	return s, nil
}

// connect initialises the library. The caller holds mu or is alone.
func (s *Source) connect() error {
	if s.up {
		return nil
	}
	switch ret := s.lib.Init(); ret {
	case nvml.SUCCESS:
		s.up = true
		s.generation++
		return nil
	case nvml.ERROR_LIBRARY_NOT_FOUND:
		return fmt.Errorf("nvml: %w: libnvidia-ml.so.1 is not on this machine; install the NVIDIA driver, or run the container with --gpus all (NVIDIA container toolkit)", gpu.ErrNone)
	case nvml.ERROR_DRIVER_NOT_LOADED:
		return fmt.Errorf("nvml: %w: the NVIDIA driver is not loaded; try \"modprobe nvidia\", or reboot after a driver update", gpu.ErrNone)
	case nvml.ERROR_LIB_RM_VERSION_MISMATCH:
		return fmt.Errorf("nvml: %w: library and kernel driver have different versions; reboot, or reload the driver", gpu.ErrNone)
	case nvml.ERROR_NO_PERMISSION:
		return fmt.Errorf("nvml: %w: /dev/nvidiactl may not be opened by this user; add the user to the group that owns it", gpu.ErrPermission)
	default:
		return fmt.Errorf("nvml: initialise: %w", failure(s.lib, ret))
	}
}

// Name implements gpu.Source.
func (s *Source) Name() string { return "nvml" }

// Close implements gpu.Source.
func (s *Source) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.disconnect()
}

func (s *Source) disconnect() error {
	if !s.up {
		return nil
	}
	s.up = false
	if ret := s.lib.Shutdown(); ret != nvml.SUCCESS {
		return fmt.Errorf("nvml: shut down: %w", failure(s.lib, ret))
	}
	return nil
}

// List implements gpu.Source.
func (s *Source) List() ([]gpu.Info, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	n, ret := s.lib.DeviceGetCount()
	if ret != nvml.SUCCESS {
		return nil, fmt.Errorf("nvml: count devices: %w", failure(s.lib, ret))
	}
	var out []gpu.Info
	for i := range n {
		h, ret := s.lib.DeviceGetHandleByIndex(i)
		if ret != nvml.SUCCESS {
			out = append(out, gpu.Info{
				Index: i, Kind: gpu.KindGPU, Source: "nvml",
				Unavailable: map[string]string{"everything": why(s.lib, ret)},
			})
			continue
		}
		in, err := s.describe(h)
		if err != nil {
			return nil, err
		}
		out = append(out, in)
	}
	return out, nil
}

// Open implements gpu.Source. The device is looked up by UUID; where the driver has forgotten the
// library's connection, that is made anew, and devices opened before are lost.
func (s *Source) Open(uuid string) (gpu.Device, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.connect(); err != nil {
		return nil, err
	}
	h, ret := s.lib.DeviceGetHandleByUUID(uuid)
	if ret != nvml.SUCCESS && ret != nvml.ERROR_NOT_FOUND {
		if err := errors.Join(s.disconnect(), s.connect()); err != nil {
			return nil, err
		}
		h, ret = s.lib.DeviceGetHandleByUUID(uuid)
	}
	if ret == nvml.ERROR_NOT_FOUND {
		return nil, fmt.Errorf("nvml: %w: %s", gpu.ErrNone, uuid)
	}
	if ret != nvml.SUCCESS {
		return nil, fmt.Errorf("nvml: open %s: %w", uuid, failure(s.lib, ret))
	}
	in, err := s.describe(h)
	if err != nil {
		return nil, err
	}
	d := &device{s: s, h: h, info: in, generation: s.generation}
	d.probe()
	return d, nil
}

// stale reports whether handles of a generation are no longer valid.
func (s *Source) stale(generation int) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return !s.up || s.generation != generation
}

// describe reads what is fixed about a card.
func (s *Source) describe(h nvml.Device) (gpu.Info, error) {
	in := gpu.Info{Kind: gpu.KindGPU, Source: "nvml", Unavailable: map[string]string{}}
	var ret nvml.Return
	if in.UUID, ret = h.GetUUID(); ret != nvml.SUCCESS {
		return in, fmt.Errorf("nvml: read a device's UUID: %w", failure(s.lib, ret))
	}
	in.Index, _ = h.GetIndex()
	in.Name, _ = h.GetName()
	in.Driver, _ = s.lib.SystemGetDriverVersion()
	if pci, ret := h.GetPciInfo(); ret == nvml.SUCCESS {
		in.PCI = fmt.Sprintf("%04x:%02x:%02x.0", pci.Domain, pci.Bus, pci.Device)
	}
	if now, _, ret := h.GetMigMode(); ret == nvml.SUCCESS && now == nvml.DEVICE_MIG_ENABLE {
		in.Unavailable["power of each MIG instance"] = "MIG is on: the sensors see the whole card, and its instances cannot be told apart"
	}
	if mode, ret := h.GetVirtualizationMode(); ret == nvml.SUCCESS && mode == nvml.GPU_VIRTUALIZATION_MODE_VGPU {
		in.Unavailable["power of the physical card"] = "this is a vGPU guest; run wattline on the host for what is null here"
	}
	return in, nil
}

// failure turns a return code into an error: gpu.ErrLost where the device or its driver is gone.
func failure(lib nvml.Interface, ret nvml.Return) error {
	text := why(lib, ret)
	switch ret {
	case nvml.ERROR_GPU_IS_LOST, nvml.ERROR_RESET_REQUIRED, nvml.ERROR_UNINITIALIZED, nvml.ERROR_DRIVER_NOT_LOADED,
		nvml.ERROR_GPU_NOT_FOUND, nvml.ERROR_LIB_RM_VERSION_MISMATCH, nvml.ERROR_NOT_FOUND:
		return fmt.Errorf("%w: %s", gpu.ErrLost, text)
	case nvml.ERROR_NO_PERMISSION:
		return fmt.Errorf("%w: %s", gpu.ErrPermission, text)
	}
	return errors.New(text)
}

// why explains why a return code left a value out.
func why(lib nvml.Interface, ret nvml.Return) string {
	switch ret {
	case nvml.ERROR_NOT_SUPPORTED:
		return "not supported by this card or driver"
	case nvml.ERROR_NO_PERMISSION:
		return "no permission: run as root, or ask for access to the device's files"
	case nvml.ERROR_GPU_IS_LOST:
		return "the card has fallen off the bus or is otherwise inaccessible (see dmesg for an Xid)"
	case nvml.ERROR_RESET_REQUIRED:
		return "the card needs a reset"
	}
	return strings.ToLower(lib.ErrorString(ret))
}
