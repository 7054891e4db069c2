package deploy_test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"

	"wattline/deploy/debian"
)

// validate runs the program of that name, a module of its own.
func validate(t *testing.T, args ...string) (string, error) {
	t.Helper()
	for i, a := range args {
		if strings.HasSuffix(a, ".yaml") {
			path, err := filepath.Abs(a)
			if err != nil {
				t.Fatal(err)
			}
			args[i] = path
		}
	}
	cmd := exec.CommandContext(t.Context(), "go", append([]string{"run", "."}, args...)...)
	cmd.Dir = "validate"
	cmd.Env = append(os.Environ(), "CLICKHOUSE_PASSWORD=secret")
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// Each profile of compose.yaml is complete: one llama-server, one wattline, and everything behind it.
func TestCompose(t *testing.T) {
	out, err := validate(t, "compose", "compose.yaml", "nvidia", "amd", "cpu")
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, profile := range []string{"nvidia", "amd", "cpu"} {
		want := profile + ": clickhouse grafana jaeger llama-" + profile + " otel-collector prometheus wattline-" + profile + "\n"
		if !strings.Contains(out, want) {
			t.Errorf("expected %q in\n%s", want, out)
		}
	}
}

// Manifests are of Kubernetes' own types, and a field that there is not is found.
func TestKubernetesManifests(t *testing.T) {
	out, err := validate(t, "k8s", "k8s/sidecar.yaml", "k8s/daemonset.yaml")
	if err != nil || strings.Count(out, "\n") < 4 {
		t.Fatalf("%v\n%s", err, out)
	}
	good, err := os.ReadFile("k8s/daemonset.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string][2]string{
		"a misspelt field": {"hostPID:", "hostPid:"}, "a volume that is not there": {"- {name: store, hostPath", "- {name: shop, hostPath"},
		"a selector that selects nothing": {"matchLabels: {app: wattline}", "matchLabels: {app: other}"},
	} {
		bad := filepath.Join(t.TempDir(), "bad.yaml")
		if err := os.WriteFile(bad, bytes.Replace(good, []byte(change[0]), []byte(change[1]), 1), 0o600); err != nil {
			t.Fatal(err)
		}
		if out, err := validate(t, "k8s", bad); err == nil {
			t.Errorf("%s passes:\n%s", name, out)
		}
	}
}

// The pod's two containers, as their commands are: the server's tells its devices, and wattline starts with them.
func TestSidecarLearnsTheDevices(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{
		"nvidia-smi":   `[ "$*" = "--query-gpu=uuid --format=csv,noheader" ] && printf 'GPU-a\nGPU-b\n'`,
		"llama-server": `echo "server $*"`, "wattline": `echo "$* on $WATTLINE_GPUS"`,
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("#!/bin/sh\n"+text+"\n"), 0o700); err != nil { //nolint:gosec // it is run
			t.Fatal(err)
		}
	}
	var said []string
	for doc := range strings.SplitSeq(mustRead(t, "k8s/sidecar.yaml"), "\n---\n") {
		var d struct {
			Spec struct {
				Template struct {
					Spec struct {
						Containers []struct {
							Name          string
							Command, Args []string
						}
					}
				}
			}
		}
		if err := yaml.Unmarshal([]byte(doc), &d); err != nil {
			t.Fatal(err)
		}
		for _, c := range d.Spec.Template.Spec.Containers {
			args := append(c.Command, c.Args...)
			for i, a := range args {
				args[i] = strings.NewReplacer("/devices/", dir+"/", "/app/", dir+"/").Replace(a)
			}
			cmd := exec.CommandContext(t.Context(), args[0], args[1:]...)
			cmd.Env = []string{"PATH=" + dir + ":" + os.Getenv("PATH")}
			out, err := cmd.CombinedOutput()
			if err != nil {
				t.Fatalf("%s: %v\n%s", c.Name, err, out)
			}
			said = append(said, string(out))
		}
	}
	if got, want := strings.Join(said, ""), "server --host 127.0.0.1 --port 8081 -m /models/model.gguf\nserve on GPU-a,GPU-b\n"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

// The Dockerfile is one to BuildKit's parser and linter, copies what there is, and does not run as root.
func TestDockerfile(t *testing.T) {
	root, err := filepath.Abs("..")
	if err != nil {
		t.Fatal(err)
	}
	if out, err := validate(t, "dockerfile", filepath.Join(root, "deploy", "Dockerfile"), root); err != nil || out != "2 stages, the last as user 10001\n" {
		t.Fatalf("%v\n%s", err, out)
	}
	good := mustRead(t, "Dockerfile")
	for name, change := range map[string][2]string{
		"an instruction that there is not": {"ENTRYPOINT", "ENTERPOINT"}, "root": {"USER 10001\n", ""}, "a file that is not there": {"COPY go.mod go.sum", "COPY go.mod go.work"},
		"a stage that is not there": {"--from=build", "--from=builder"},
	} {
		bad := filepath.Join(t.TempDir(), "Dockerfile")
		if err := os.WriteFile(bad, []byte(strings.Replace(good, change[0], change[1], 1)), 0o600); err != nil {
			t.Fatal(err)
		}
		if out, err := validate(t, "dockerfile", bad, root); err == nil {
			t.Errorf("%s passes:\n%s", name, out)
		}
	}
}

// Dashboards are of the types that Grafana publishes, and a field that there is not is found.
func TestGrafanaDashboards(t *testing.T) {
	files, err := filepath.Glob("grafana/dashboards*/*.json")
	if err != nil || len(files) < 8 {
		t.Fatalf("%v, %v", files, err)
	}
	for i, file := range files {
		if files[i], err = filepath.Abs(file); err != nil {
			t.Fatal(err)
		}
	}
	out, err := validate(t, append([]string{"grafana"}, files...)...)
	if err != nil || strings.Count(out, " panels\n") != len(files) {
		t.Fatalf("%v\n%s", err, out)
	}
	good, err := os.ReadFile("grafana/dashboards/operations.json")
	if err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string][2]string{
		"a misspelt field of a panel": {`"fieldConfig":`, `"fieldconfig":`}, "a query's field that Prometheus lacks": {`"legendFormat":`, `"legend":`},
		"a stacking mode that there is not": {`"mode": "normal"`, `"mood": "normal"`},
	} {
		bad := filepath.Join(t.TempDir(), "bad.json")
		if err := os.WriteFile(bad, bytes.Replace(good, []byte(change[0]), []byte(change[1]), 1), 0o600); err != nil {
			t.Fatal(err)
		}
		if out, err := validate(t, "grafana", bad); err == nil {
			t.Errorf("%s passes:\n%s", name, out)
		}
	}
}

// What the data sources and the collector are told is YAML, and every data source that a dashboard names is provisioned.
func TestProvisionedDataSources(t *testing.T) {
	uids := map[string]bool{}
	for _, file := range []string{"grafana/provisioning/datasources/wattline.yaml", "grafana/provisioning/datasources-sqlite.yaml"} {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var f struct {
			Datasources []struct{ UID string }
		}
		if err := yaml.Unmarshal(text, &f); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		for _, d := range f.Datasources {
			uids[d.UID] = true
		}
	}
	for _, uid := range []string{"wattline-clickhouse", "wattline-prometheus", "wattline-sqlite", "wattline-jaeger"} {
		if !uids[uid] {
			t.Errorf("%s is not provisioned", uid)
		}
	}
	for _, file := range []string{"otel/collector.yaml", "grafana/provisioning/dashboards/wattline.yaml"} {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var v map[string]any
		if err := yaml.Unmarshal(text, &v); err != nil || len(v) < 2 {
			t.Errorf("%s: %v", file, err)
		}
	}
}

// systemd finds nothing to say about the units.
func TestSystemdUnits(t *testing.T) {
	analyze := debian.Need(t, "systemd-analyze")
	dir := t.TempDir()
	for _, name := range []string{"wattline.service", "wattline.socket"} {
		text, err := os.ReadFile(filepath.Join("systemd", name))
		if err != nil {
			t.Fatal(err)
		}
		text = bytes.Replace(text, []byte("/usr/local/bin/wattline"), []byte("/bin/true"), 1) // verify wants it to be there
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	out, err := exec.CommandContext(t.Context(), analyze, "verify", filepath.Join(dir, "wattline.service"), filepath.Join(dir, "wattline.socket")).CombinedOutput()
	if bytes.Contains(out, []byte("Failed to create directory '/run/systemd/'")) {
		debian.LeaveOut(t, "this machine was not booted by systemd, and this user cannot make its folders") // it needs them
	}
	if err != nil || len(bytes.TrimSpace(out)) != 0 {
		t.Errorf("systemd-analyze verify: %v\n%s", err, out)
	}
}

// What failed once on a real machine: devices by the names that drivers register (recorded from 535 and 580), the socket
// that tells the upstream's process, and no group that has to be made first.
func TestSystemdUnitOnRealMachines(t *testing.T) {
	unit := mustRead(t, "systemd/wattline.service")
	allowed := regexp.MustCompile(`(?m)^DeviceAllow=char-(\S+) rw$`).FindAllStringSubmatch(unit, -1)
	for _, name := range []string{"nvidia-frontend", "nvidia", "nvidiactl", "nvidia-uvm", "nvidia-caps"} {
		found := false
		for _, a := range allowed {
			ok, err := filepath.Match(a[1], name)
			found = found || ok && err == nil
		}
		if !found {
			t.Errorf("DeviceAllow= has nothing for %s, which NVML opens", name)
		}
	}
	if !regexp.MustCompile(`(?m)^RestrictAddressFamilies=.*\bAF_NETLINK\b`).MatchString(unit) {
		t.Error("without AF_NETLINK the process of the upstream is not found")
	}
	// The successor of an upgrade is no child of systemd's: without ExecStop, a stop kills it with its requests.
	if stop := regexp.MustCompile(`(?m)^ExecStop=.*kill \$MAINPID && while kill -0`).FindString(unit); stop == "" || strings.Contains(unit, "\nKillMode=mixed") {
		t.Error("a stop after SIGUSR2 does not wait for the main process")
	}
	if strings.Contains(unit, "\nSupplementaryGroups=") {
		t.Error("a group that is not there keeps the service from starting (216/GROUP)")
	}
}

// Every WATTLINE_ variable that these files set is one that wattline reads: config.yaml is written from its flags.
func TestEnvironmentVariables(t *testing.T) {
	known := mustRead(t, "config.yaml") + "(WATTLINE_CLICKHOUSE_PASSWORD)" // a secret has no flag
	n := 0
	for _, file := range []string{"compose.yaml", "k8s/sidecar.yaml", "k8s/daemonset.yaml", "Dockerfile", "systemd/wattline.service"} {
		for _, name := range regexp.MustCompile(`WATTLINE_\w+`).FindAllString(mustRead(t, file), -1) {
			if n++; !strings.Contains(known, "("+name+")") {
				t.Errorf("%s sets %s, which nobody reads", file, name)
			}
		}
	}
	if n < 20 {
		t.Errorf("only %d variables were found", n)
	}
}

func mustRead(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
