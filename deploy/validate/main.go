// Command validate reads deployment files with the code that will read them: compose files with the
// compose specification's own loader, manifests with Kubernetes' API types and dashboards with Grafana's,
// where an unknown field is an error, Dockerfiles with BuildKit's parser and linter. It is a module of its own, so
// that none of these becomes a dependency of wattline.
//
//	validate compose FILE PROFILE...   prints each profile's services, one line a profile
//	validate k8s FILE...               prints each object's kind and name
//	validate grafana FILE...           prints each dashboard's title and number of panels
//	validate dockerfile FILE CONTEXT   prints the number of stages and the user of the last
package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/compose-spec/compose-go/v2/cli"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/json"
	yamljson "sigs.k8s.io/yaml"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "validate:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) < 2 {
		return errors.New("usage: validate compose FILE PROFILE... | validate k8s FILE... | validate grafana FILE... | validate dockerfile FILE CONTEXT")
	}
	switch args[0] {
	case "compose":
		for _, profile := range args[2:] {
			if err := compose(args[1], profile); err != nil {
				return fmt.Errorf("%s, profile %s: %w", args[1], profile, err)
			}
		}
		return nil
	case "k8s":
		for _, file := range args[1:] {
			if err := manifests(file); err != nil {
				return fmt.Errorf("%s: %w", file, err)
			}
		}
		return nil
	case "grafana":
		return dashboards(args[1:])
	case "dockerfile":
		if len(args) == 3 {
			return dockerfile(args[1], args[2])
		}
	}
	return fmt.Errorf("unknown kind of file %q", args[0])
}

// compose loads the file as `docker compose --profile PROFILE config` does, and checks that mounted files exist.
func compose(file, profile string) error {
	o, err := cli.NewProjectOptions([]string{file}, cli.WithOsEnv, cli.WithProfiles([]string{profile}))
	if err != nil {
		return err
	}
	project, err := o.LoadProject(context.Background())
	if err != nil {
		return err
	}
	for _, s := range project.Services {
		for _, v := range s.Volumes {
			if v.Type != "bind" || filepath.Base(v.Source) == "models" { // models are the user's
				continue
			}
			if _, err := os.Stat(v.Source); err != nil {
				return fmt.Errorf("service %s mounts a missing file: %w", s.Name, err)
			}
		}
	}
	names := project.ServiceNames()
	slices.Sort(names)
	fmt.Printf("%s: %s\n", profile, strings.Join(names, " "))
	return nil
}

// manifests decodes each document into its own type and checks what the types cannot.
func manifests(file string) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	docs := yaml.NewYAMLReader(bufio.NewReader(bytes.NewReader(text)))
	for {
		doc, err := docs.Read()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := manifest(doc); err != nil {
			return err
		}
	}
}

func manifest(doc []byte) error {
	var head metav1.PartialObjectMetadata
	if err := yamljson.Unmarshal(doc, &head); err != nil {
		return err
	}
	where := head.Kind + " " + head.Name
	var err error
	switch head.APIVersion + "/" + head.Kind {
	case "v1/Service":
		err = decode(doc, &corev1.Service{})
	case "v1/PersistentVolumeClaim":
		err = decode(doc, &corev1.PersistentVolumeClaim{})
	case "apps/v1/Deployment":
		var d appsv1.Deployment
		if err = decode(doc, &d); err == nil {
			err = pod(d.Spec.Selector, &d.Spec.Template)
		}
	case "apps/v1/DaemonSet":
		var d appsv1.DaemonSet
		if err = decode(doc, &d); err == nil {
			err = pod(d.Spec.Selector, &d.Spec.Template)
		}
	default:
		err = fmt.Errorf("no type is known for %s %s", head.APIVersion, head.Kind)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", where, err)
	}
	fmt.Println(where)
	return nil
}

// decode decodes as a strict API server does: names are case-sensitive, and unknown or repeated ones are errors.
func decode(doc []byte, into any) error {
	text, err := yamljson.YAMLToJSONStrict(doc)
	if err != nil {
		return err
	}
	wrong, err := json.UnmarshalStrict(text, into)
	return errors.Join(append(wrong, err)...)
}

// pod checks that the selector selects the template, and that mounts and probes name what exists.
func pod(selector *metav1.LabelSelector, t *corev1.PodTemplateSpec) error {
	s, err := metav1.LabelSelectorAsSelector(selector)
	if err != nil {
		return err
	}
	if s.Empty() || !s.Matches(labels.Set(t.Labels)) {
		return errors.New("the selector does not select the template")
	}
	volumes, ports := map[string]bool{}, map[string]bool{}
	for _, v := range t.Spec.Volumes {
		volumes[v.Name] = true
	}
	for _, c := range slices.Concat(t.Spec.InitContainers, t.Spec.Containers) {
		for _, p := range c.Ports {
			ports[p.Name] = true
		}
		for _, m := range c.VolumeMounts {
			if !volumes[m.Name] {
				return fmt.Errorf("container %s mounts the volume %s, which is not there", c.Name, m.Name)
			}
		}
		for _, p := range []*corev1.Probe{c.LivenessProbe, c.ReadinessProbe} {
			if p != nil && !ports[p.HTTPGet.Port.String()] {
				return fmt.Errorf("container %s is probed at the port %s, which is not there", c.Name, p.HTTPGet.Port.String())
			}
		}
	}
	return nil
}
