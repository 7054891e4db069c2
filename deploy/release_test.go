package deploy_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"debug/elf"
	"debug/macho"
	"debug/pe"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// `make release` writes what it says: archives for two architectures, with and without cgo, packages and
// checksums; each binary knows its version, and the same commit gives the same bytes. It compiles wattline
// seven times, so it runs where WATTLINE_RELEASE is set, as .ci/run does.
func TestRelease(t *testing.T) {
	if os.Getenv("WATTLINE_RELEASE") == "" {
		t.Skip("WATTLINE_RELEASE is not set: .ci/run sets it (four builds, some minutes)")
	}
	dist, said := release(t)
	var want []string
	for _, arch := range []string{"amd64", "arm64"} {
		name := "wattline-v9.8.7-linux-" + arch
		if strings.Contains(said, name+" is left out") {
			t.Errorf("the cross compiler is missing (apt-get install gcc-aarch64-linux-gnu): %s", said)
		}
		want = append(want, name+"-static.tar.gz", name+".tar.gz", "wattline_9.8.7_"+arch+".deb")
		machine := map[string]elf.Machine{"amd64": elf.EM_X86_64, "arm64": elf.EM_AARCH64}[arch]
		for suffix, cgo := range map[string]bool{"": true, "-static": false} {
			files := unpack(t, filepath.Join(dist, name+suffix+".tar.gz"))
			for _, f := range []string{"wattline", "LICENSE", "README.md", "config.yaml", "systemd/wattline.service", "systemd/wattline.socket", "systemd/wattline.service.d/rapl.conf"} {
				if len(files[name+suffix+"/"+f]) == 0 {
					t.Errorf("%s%s has no %s", name, suffix, f)
				}
			}
			checkBinary(t, name+suffix, files[name+suffix+"/wattline"], machine, cgo)
		}
		checkPackage(t, filepath.Join(dist, "wattline_9.8.7_"+arch+".deb"), arch)
	}
	for target, file := range map[string]string{"darwin-arm64": "wattline", "darwin-amd64": "wattline", "windows-amd64": "wattline.exe"} {
		name := "wattline-v9.8.7-" + target
		want = append(want, name+".tar.gz")
		files := unpack(t, filepath.Join(dist, name+".tar.gz"))
		if len(files[name+"/LICENSE"]) == 0 || len(files[name+"/README.md"]) == 0 || len(files[name+"/config.yaml"]) == 0 {
			t.Errorf("%s lacks a file", name)
		}
		checkForeign(t, target, files[name+"/"+file])
	}
	sums := checkSums(t, dist, want)
	again, _ := release(t)
	if checkSums(t, again, want) != sums {
		t.Errorf("a second run gives other bytes:\n%s%s", sums, mustRead(t, filepath.Join(again, "SHA256SUMS")))
	}
}

// Each system's code is sound as far as go vet sees, tests included. What `make test` vets is this system's with cgo. The
// packages are compiled as release.sh compiles them, so that most come from the build cache.
func TestReleaseVet(t *testing.T) {
	if os.Getenv("WATTLINE_RELEASE") == "" {
		t.Skip("WATTLINE_RELEASE is not set: .ci/run sets it (five systems, some minutes)")
	}
	for _, target := range []string{"linux-amd64", "linux-arm64", "darwin-arm64", "darwin-amd64", "windows-amd64"} {
		t.Run(target, func(t *testing.T) {
			system, arch, _ := strings.Cut(target, "-")
			cmd := exec.CommandContext(t.Context(), "go", "vet", "-trimpath", "./...")
			cmd.Dir, cmd.Env = "..", append(os.Environ(), "GOOS="+system, "GOARCH="+arch, "CGO_ENABLED=0")
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Errorf("%v\n%s", err, out)
			}
		})
	}
}

func release(t *testing.T) (dist, said string) {
	t.Helper()
	dist = filepath.Join(t.TempDir(), "dist")
	cmd := exec.CommandContext(t.Context(), "./release.sh", "v9.8.7", dist)
	var errs bytes.Buffer
	cmd.Stderr = &errs
	if err := cmd.Run(); err != nil {
		t.Fatalf("%v\n%s", err, errs.String())
	}
	return dist, errs.String()
}

// unpack reads an archive's files.
func unpack(t *testing.T, path string) map[string][]byte {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	unzipped, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	files := map[string][]byte{}
	for r := tar.NewReader(unzipped); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return files
		}
		if err != nil {
			t.Fatal(err)
		}
		if h.Uid != 0 || h.Gid != 0 {
			t.Errorf("%s: %s belongs to %d:%d", path, h.Name, h.Uid, h.Gid)
		}
		if files[h.Name], err = io.ReadAll(r); err != nil {
			t.Fatal(err)
		}
	}
}

// checkBinary looks at what the binary is for and, where it can run here, what it says.
func checkBinary(t *testing.T, name string, text []byte, machine elf.Machine, cgo bool) {
	t.Helper()
	f, err := elf.NewFile(bytes.NewReader(text))
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	dynamic := slices.ContainsFunc(f.Progs, func(p *elf.Prog) bool { return p.Type == elf.PT_INTERP })
	if f.Machine != machine || dynamic != cgo {
		t.Errorf("%s is for %v, dynamic: %v", name, f.Machine, dynamic)
	}
	path := filepath.Join(t.TempDir(), "wattline")
	if err := os.WriteFile(path, text, 0o700); err != nil {
		t.Fatal(err)
	}
	run := []string{path, "version"}
	if machine == elf.EM_AARCH64 {
		qemu, err := exec.LookPath("qemu-aarch64-static")
		if err != nil {
			t.Logf("%s is not run: qemu-user-static is not installed", name)
			return
		}
		run = append([]string{qemu, "-L", "/usr/aarch64-linux-gnu"}, run...)
	}
	out, err := exec.CommandContext(t.Context(), run[0], run[1:]...).CombinedOutput()
	if err != nil || !strings.HasPrefix(string(out), "wattline v9.8.7 go") {
		t.Errorf("%s says %q, %v", name, out, err)
	}
	t.Logf("%s: %s", name, bytes.TrimSpace(out))
}

// checkForeign looks at a binary that cannot run here.
func checkForeign(t *testing.T, target string, text []byte) {
	t.Helper()
	if target == "windows-amd64" {
		f, err := pe.NewFile(bytes.NewReader(text))
		if err != nil || f.Machine != pe.IMAGE_FILE_MACHINE_AMD64 {
			t.Errorf("%s: %v, %+v", target, err, f)
		}
		return
	}
	cpu := map[string]macho.Cpu{"darwin-arm64": macho.CpuArm64, "darwin-amd64": macho.CpuAmd64}[target]
	f, err := macho.NewFile(bytes.NewReader(text))
	if err != nil || f.Cpu != cpu {
		t.Errorf("%s: %v, %+v", target, err, f)
	}
	if !bytes.Contains(text, []byte("v9.8.7")) {
		t.Errorf("%s does not know its version", target)
	}
}

// checkPackage looks into a .deb as dpkg does.
func checkPackage(t *testing.T, path, arch string) {
	t.Helper()
	if _, err := exec.LookPath("dpkg-deb"); err != nil {
		t.Log("packages are not looked into: dpkg-deb is not installed")
		return
	}
	ask := func(args ...string) string {
		out, err := exec.CommandContext(t.Context(), "dpkg-deb", args...).CombinedOutput()
		if err != nil {
			t.Fatalf("dpkg-deb %v: %v\n%s", args, err, out)
		}
		return string(out)
	}
	fields := ask("--field", path, "Package", "Version", "Architecture", "Depends")
	if fields != "Package: wattline\nVersion: 9.8.7\nArchitecture: "+arch+"\nDepends: libc6 (>= 2.34)\n" {
		t.Errorf("%s is\n%s", path, fields)
	}
	root := t.TempDir()
	ask("-x", path, root)
	unit := mustRead(t, filepath.Join(root, "usr/lib/systemd/system/wattline.service"))
	if !strings.Contains(unit, "\nExecStart=/usr/bin/wattline serve\n") || strings.Contains(unit, "/usr/local/") {
		t.Errorf("the package's unit starts something else:\n%s", unit)
	}
	for file, mode := range map[string]os.FileMode{"usr/bin/wattline": 0o755, "usr/lib/systemd/system/wattline.socket": 0o644, "etc/wattline/config.yaml": 0o644} {
		if i, err := os.Stat(filepath.Join(root, file)); err != nil || i.Mode().Perm() != mode {
			t.Errorf("%s: %v, %v", file, i, err)
		}
	}
	ask("-e", path, filepath.Join(root, "DEBIAN"))
	if conf := mustRead(t, filepath.Join(root, "DEBIAN/conffiles")); strings.TrimSpace(conf) != "/etc/wattline/config.yaml" {
		t.Errorf("the package's configuration files are %q", conf)
	}
}

// checkSums returns SHA256SUMS, which must be right of each file, name each and nothing else.
func checkSums(t *testing.T, dist string, want []string) string {
	t.Helper()
	text := mustRead(t, filepath.Join(dist, "SHA256SUMS"))
	var got []string
	for line := range strings.Lines(text) {
		sum, name, _ := strings.Cut(strings.TrimSpace(line), "  ")
		got = append(got, name)
		if is := fmt.Sprintf("%x", sha256.Sum256([]byte(mustRead(t, filepath.Join(dist, name))))); is != sum {
			t.Errorf("%s has the sum %s, not %s", name, is, sum)
		}
	}
	there, err := filepath.Glob(filepath.Join(dist, "*"))
	slices.Sort(got)
	slices.Sort(want)
	if err != nil || !slices.Equal(got, want) || len(there) != len(want)+1 {
		t.Errorf("SHA256SUMS lists %v, there are %v, expected %v", got, there, want)
	}
	return text
}
