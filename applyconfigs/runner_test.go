package applyconfigs

import (
	"errors"
	"slices"
	"testing"

	"k8s.io/apimachinery/pkg/runtime"

	"mcpserver-operator/crd/v1beta1"
)

// TestTheCommandOfAnImage: a container with args and without a command runs the entrypoint of its image with the args, which replace the cmd.
// Kubernetes does not expand what the image has.
func TestTheCommandOfAnImage(t *testing.T) {
	for name, row := range map[string]struct {
		entrypoint, cmd   []string
		command, withArgs []string
	}{
		"entrypoint only": {[]string{"/server", "stdio"}, nil, []string{"/server", "stdio"}, []string{"/server", "stdio", "-v", "$(LEVEL)"}},
		"cmd only":        {nil, []string{"node", "index.js"}, []string{"node", "index.js"}, []string{"-v", "$(LEVEL)"}},
		"both":            {[]string{"/server"}, []string{"stdio"}, []string{"/server", "stdio"}, []string{"/server", "-v", "$(LEVEL)"}},
		"with $": {
			[]string{"/bin/sh", "-c", "exec $SERVER $(cat /args) $$"}, []string{"$(HOME)"},
			[]string{"/bin/sh", "-c", "exec $$SERVER $$(cat /args) $$$$", "$$(HOME)"},
			[]string{"/bin/sh", "-c", "exec $$SERVER $$(cat /args) $$$$", "-v", "$(LEVEL)"},
		},
	} {
		image := &v1beta1.ImageStatus{Reference: "registry.example/server:1", Entrypoint: row.entrypoint, Cmd: row.cmd}
		before := image.DeepCopy()
		for args, want := range map[*[]string][]string{{}: row.command, {"-v", "$(LEVEL)"}: row.withArgs} {
			server := stdioServer(func(spec *v1beta1.MCPServerSpec) { spec.Args = *args })
			set := newSet(t, server, Scale{}, Cluster{RunnerImage: runnerImage}, image)
			got := set.Spec.Template.Spec.Containers[0].Command
			if begin := slices.Index(got, "--") + 1; !slices.Equal(got[begin:], want) {
				t.Errorf("%s, with the args %q: %q, want %q", name, *args, got[begin:], want)
			}
		}
		if !slices.Equal(image.Entrypoint, before.Entrypoint) || !slices.Equal(image.Cmd, before.Cmd) {
			t.Errorf("%s: the builder changed the image to %+v", name, image)
		}
	}
}

// TestSourcesOfTheCommand: the command of a stdio server is that of spec.command or of the template. The image is asked only if neither has one.
func TestSourcesOfTheCommand(t *testing.T) {
	const image, other = "registry.example/server:1", "registry.example/other:1"
	template := func(raw string) func(*v1beta1.MCPServerSpec) {
		return func(spec *v1beta1.MCPServerSpec) { spec.PodTemplateSpec = &runtime.RawExtension{Raw: []byte(raw)} }
	}
	for name, row := range map[string]struct {
		change func(*v1beta1.MCPServerSpec)
		image  string // to look up
	}{
		"no command":    {func(*v1beta1.MCPServerSpec) {}, image},
		"args only":     {func(spec *v1beta1.MCPServerSpec) { spec.Args = []string{"-v"} }, image},
		"spec.command":  {func(spec *v1beta1.MCPServerSpec) { spec.Command = []string{"server"} }, ""},
		"template":      {template(`{"spec":{"containers":[{"name":"mcp","command":["server"]}]}}`), ""},
		"other image":   {template(`{"spec":{"containers":[{"name":"mcp","image":"` + other + `"}]}}`), other},
		"other command": {template(`{"spec":{"containers":[{"name":"sidecar","command":["other"]}]}}`), image},
	} {
		server := stdioServer(row.change)
		cluster := Cluster{RunnerImage: runnerImage}
		if got := ImageToLookUp(server, cluster); got != row.image {
			t.Errorf("%s: looks up %q, want %q", name, got, row.image)
		}
		_, err := StatefulSet(server, Scale{}, fixedFor(t, server), cluster, nil)
		if isUnknown := errors.Is(err, ErrCommandUnknown); isUnknown != (row.image != "") || (err != nil && !isUnknown) {
			t.Errorf("%s: without the image, the error is %v", name, err)
		}
		for reference, wantErr := range map[string]bool{row.image: false, "registry.example/earlier:1": row.image != ""} {
			found := &v1beta1.ImageStatus{Reference: reference, Entrypoint: []string{"/server"}}
			if _, err := StatefulSet(server, Scale{}, fixedFor(t, server), cluster, found); errors.Is(err, ErrCommandUnknown) != wantErr {
				t.Errorf("%s, with the command of %q: the error is %v", name, reference, err)
			}
		}
		server.Spec.Sessions = &v1beta1.Sessions{Mode: v1beta1.SessionsDirect}
		if got := ImageToLookUp(server, cluster); got != "" {
			t.Errorf("%s, without a runner: looks up %q", name, got)
		}
	}
}

func stdioServer(change func(*v1beta1.MCPServerSpec)) *v1beta1.MCPServer {
	server := &v1beta1.MCPServer{Spec: v1beta1.MCPServerSpec{Image: "registry.example/server:1"}}
	server.Name, server.Namespace = "web", "team"
	change(&server.Spec)
	return server
}
