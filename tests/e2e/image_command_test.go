package e2e

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	fake "github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/e2e-framework/pkg/features"

	"mcpserver-operator/crd/v1beta1"
	"mcpserver-operator/tests/cluster"
	"mcpserver-operator/tests/controlplane"
)

const (
	publicImage  = "registry.example.com/team/server:1"
	privateImage = "private.example.com/team/server:1"
	adminLogin   = "admin:secret"
	runnerOfTest = "registry.example/operator:1"
)

// imageRegistry is a registry in this process for all hosts below example.com. The host private.example.com asks for adminLogin. The operator reaches
// it through a proxy, which is not on a loopback address, because the operator does not connect to those.
type imageRegistry struct {
	*httptest.Server
	proxy *httptest.Server
	// dir has the files of the operator. A directory of a step would be gone when the operator is restarted.
	dir string
	// fails is true if the registry answers each request with an error.
	fails atomic.Bool
	// requests counts the requests of the operator.
	requests atomic.Int32
}

func newImageRegistry(t *testing.T) *imageRegistry {
	t.Helper()
	r := &imageRegistry{dir: t.TempDir()}
	store := fake.New(fake.Logger(log.New(io.Discard, "", 0)))
	r.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, request *http.Request) {
		if request.Method == http.MethodGet {
			r.requests.Add(1)
		}
		user, password, _ := request.BasicAuth()
		switch {
		case r.fails.Load():
			w.WriteHeader(http.StatusServiceUnavailable)
		case request.Host == "private.example.com" && user+":"+password != adminLogin:
			w.Header().Set("WWW-Authenticate", "Basic")
			w.WriteHeader(http.StatusUnauthorized)
		default:
			store.ServeHTTP(w, request)
		}
	}))
	r.Config.ErrorLog = log.New(io.Discard, "", 0)
	r.StartTLS()
	r.proxy = httptest.NewUnstartedServer(http.HandlerFunc(r.connect))
	must(t, r.proxy.Listener.Close())
	r.proxy.Listener = listenOutside(t)
	r.proxy.Start()
	t.Cleanup(func() {
		r.proxy.Close()
		r.Close()
	})
	return r
}

// listenOutside listens on an address of this machine that is not a loopback address. If there is none, it skips the test, unless
// controlplane.RequiredVariable is set: then the test fails.
func listenOutside(t *testing.T) net.Listener {
	t.Helper()
	addresses, err := net.InterfaceAddrs()
	must(t, err)
	for _, address := range addresses {
		if network, isNetwork := address.(*net.IPNet); isNetwork && network.IP.IsGlobalUnicast() {
			if listener, err := net.Listen("tcp", net.JoinHostPort(network.IP.String(), "0")); err == nil {
				return listener
			}
		}
	}
	const why = "this machine has only loopback addresses, to which the operator does not connect"
	if controlplane.Required() { // as in CI
		t.Fatal(why)
	}
	t.Skip(why)
	return nil
}

// connect answers the request CONNECT for any host with a connection to the registry.
func (r *imageRegistry) connect(w http.ResponseWriter, request *http.Request) {
	server, err := new(net.Dialer).DialContext(request.Context(), "tcp", r.Listener.Addr().String())
	if err != nil || request.Method != http.MethodConnect {
		w.WriteHeader(http.StatusBadGateway)
		return
	}
	defer server.Close()
	w.WriteHeader(http.StatusOK)
	client, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return
	}
	defer client.Close()
	go func() { _, _ = io.Copy(server, client) }()
	_, _ = io.Copy(client, server)
}

// push stores an image with an entrypoint and a cmd, and returns its digest.
func (r *imageRegistry) push(t *testing.T, reference string, config v1.Config) string {
	t.Helper()
	image, err := mutate.ConfigFile(empty.Image, &v1.ConfigFile{OS: "linux", Architecture: "amd64", Config: config, RootFS: v1.RootFS{Type: "layers"}})
	must(t, err)
	_, path, _ := strings.Cut(reference, "/")
	at, err := name.ParseReference(strings.TrimPrefix(r.URL, "https://") + "/" + path)
	must(t, err)
	must(t, remote.Write(at, image, remote.WithTransport(r.Client().Transport)))
	digest, err := image.Digest()
	must(t, err)
	return digest.String()
}

// operatorWith replaces the operator of the suite by one with a runner that reads images from the registry. If login is not empty, it has
// credentials for private.example.com.
func (r *imageRegistry) operatorWith(login string) features.Func {
	authorities := filepath.Join(r.dir, "ca.crt")
	return all(step(func(_ context.Context, t *testing.T) {
		t.Helper()
		must(t, os.WriteFile(authorities, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: r.Certificate().Raw}), 0o600))
		if login != "" {
			config := fmt.Sprintf(`{"auths":{"private.example.com":{"auth":%q}}}`, base64.StdEncoding.EncodeToString([]byte(login)))
			must(t, os.WriteFile(filepath.Join(r.dir, "config.json"), []byte(config), 0o600))
		}
	}), operatorIsReplaced(func(ctx context.Context) (*cluster.Operator, error) {
		apiServer, err := url.Parse(theCluster.Config.Host)
		if err != nil {
			return nil, err
		}
		return theCluster.StartOperatorIn(ctx,
			[]string{"DOCKER_CONFIG=" + r.dir, "HTTPS_PROXY=" + r.proxy.URL, "NO_PROXY=" + apiServer.Hostname()},
			"--zap-log-level=5", "--runner-image="+runnerOfTest, "--registry-ca-file="+authorities)
	}))
}

// commandIs waits until the runner of the StatefulSet starts a command, and the pods are ready.
func commandIs(command ...string) features.Func {
	return step(func(ctx context.Context, t *testing.T) {
		t.Helper()
		eventually(ctx, t, fmt.Sprintf("the command %q", command), func(ctx context.Context) (string, bool) {
			set, mcp := statefulSet(ctx, t), mcpServer(ctx, t)
			if set.UID == "" {
				return fmt.Sprint(mcp.Status.Conditions), false
			}
			got := set.Spec.Template.Spec.Containers[0].Command
			got = got[slices.Index(got, "--")+1:]
			return fmt.Sprintf("%q, %v", got, mcp.Status.Conditions), slices.Equal(got, command) && ready(mcp)
		})
	})
}

// imageStatusIs waits until the status has an image with a digest.
func imageStatusIs(reference string, digest *string) features.Func {
	return step(func(ctx context.Context, t *testing.T) {
		t.Helper()
		eventually(ctx, t, "the image in the status", func(ctx context.Context) (string, bool) {
			image := mcpServer(ctx, t).Status.Image
			return fmt.Sprintf("%+v, want %s", image, *digest), image != nil && image.Reference == reference && image.Digest == *digest
		})
	})
}

func encoded(t *testing.T, value any) string {
	t.Helper()
	content, err := json.Marshal(value)
	must(t, err)
	return string(content)
}

func stdioOf(image string) string {
	return fmt.Sprintf(`
apiVersion: toolhive.stacklok.dev/v1beta1
kind: MCPServer
metadata: {name: web}
spec: {image: %q}
`, image)
}

// TestTheCommandComesFromTheImage verifies that a stdio server runs the entrypoint and the cmd of its image behind the runner, and that neither a tag that
// moves nor a registry that is down changes its pods.
func TestTheCommandComesFromTheImage(t *testing.T) {
	images := newImageRegistry(t)
	first := images.push(t, publicImage, v1.Config{Entrypoint: []string{"/server"}, Cmd: []string{"stdio", "$HOME"}})
	var second string
	var pods []types.UID
	remember := step(func(ctx context.Context, t *testing.T) { pods = slices.Sorted(slices.Values(podUIDs(ctx, t))) })
	samePods := step(func(ctx context.Context, t *testing.T) {
		t.Helper()
		if now := slices.Sorted(slices.Values(podUIDs(ctx, t))); !slices.Equal(now, pods) {
			t.Errorf("the pods were %v and are %v", pods, now)
		}
	})
	fails := func(fails bool) features.Func {
		return step(func(context.Context, *testing.T) { images.fails.Store(fails) })
	}
	restarted := func(at string) features.Func {
		return kubectl("annotate", "mcpserver", "web", "--overwrite", v1beta1.RestartedAtAnnotation+"="+at)
	}
	forged := v1beta1.ImageStatus{Reference: publicImage, Digest: "sha256:0", Entrypoint: []string{"/forged"}}
	testEnv.Test(t, feature("a stdio server without a command").
		Setup(all(images.operatorWith(""), apply(stdioOf(publicImage)))).
		Assess("runs that of its image, not expanded", all(commandIs("/server", "stdio", "$$HOME"), scaleIs(1), imageStatusIs(publicImage, &first),
			eventuallyPrints("runner", "statefulset/web", ".spec.template.spec.initContainers[0].name"))).
		Assess("args replace the cmd", all(kubectl("patch", "mcpserver", "web", "--type=merge", "-p", `{"spec":{"args":["-v","$(MCP_PORT)"]}}`),
			commandIs("/server", "-v", "$(MCP_PORT)"), scaleIs(1), remember)).
		Assess("a tag that moves changes no pod, also after a restart of the operator", all(step(func(_ context.Context, t *testing.T) {
			second = images.push(t, publicImage, v1.Config{Entrypoint: []string{"/moved"}})
			images.requests.Store(0)
		}), passesAreForced(2), operatorRestarts(), passesAreForced(1), commandIs("/server", "-v", "$(MCP_PORT)"), samePods, imageStatusIs(publicImage, &first),
			step(func(_ context.Context, t *testing.T) {
				if requests := images.requests.Load(); requests != 0 {
					t.Errorf("the operator asked the registry %d times", requests)
				}
			}))).
		Assess("a status that has another command is corrected, and changes no pod", all(step(func(ctx context.Context, t *testing.T) {
			kubectl("patch", "mcpserver", "web", "--subresource=status", "--type=merge", "-p", encoded(t, map[string]any{"status": map[string]any{"image": forged}}))(ctx, t, nil)
		}), imageStatusIs(publicImage, &first), commandIs("/server", "-v", "$(MCP_PORT)"), samePods)).
		Assess("a record that has another command is corrected, and changes no pod", all(step(func(ctx context.Context, t *testing.T) {
			kubectl("annotate", "statefulset", "web", "--overwrite", v1beta1.ImageAnnotation+"="+encoded(t, forged))(ctx, t, nil)
		}), eventuallyHas([]string{"/server"}, "statefulset/web", `.metadata.annotations.toolhive\.stacklok\.dev/image`), passesAreForced(1),
			imageStatusIs(publicImage, &first), commandIs("/server", "-v", "$(MCP_PORT)"), samePods)).
		Assess("what changes only the runner is carried out with the same command", all(
			kubectl("patch", "mcpserver", "web", "--type=merge", "-p", `{"spec":{"audit":{"enabled":true}}}`),
			eventuallyHas([]string{"--audit"}, "statefulset/web", ".spec.template.spec.containers[0].command"), commandIs("/server", "-v", "$(MCP_PORT)"), scaleIs(1),
			imageStatusIs(publicImage, &first))).
		Assess("a registry that is down changes no pod, and the scale and the Service follow the MCPServer", all(fails(true), operatorRestarts(),
			kubectl("patch", "mcpserver", "web", "--type=merge", "-p", `{"spec":{"service":{"type":"NodePort"}}}`), kubectl("scale", "statefulset", "web", "--replicas=2"),
			scaleIs(2), eventuallyPrints("NodePort", "service/mcp-web-proxy", ".spec.type"), commandIs("/server", "-v", "$(MCP_PORT)"))).
		Assess("and a change of the pods is carried out with the command that is known", all(restarted("first"), commandIs("/server", "-v", "$(MCP_PORT)"),
			eventuallyPrints("first", "statefulset/web", `.spec.template.metadata.annotations.mcpserver\.toolhive\.stacklok\.dev/restarted-at`), scaleIs(2), imageStatusIs(publicImage, &first), noEventSays(".spec.template"))).
		Assess("the next change brings the command that the tag has then", all(fails(false), operatorRestarts(), restarted("second"),
			commandIs("/moved", "-v", "$(MCP_PORT)"), scaleIs(2), imageStatusIs(publicImage, &second))).
		Assess("a command of its own replaces that of the image", all(
			kubectl("patch", "mcpserver", "web", "--type=merge", "-p", `{"spec":{"command":["own"]}}`), commandIs("own", "-v", "$(MCP_PORT)"), scaleIs(2),
			eventuallyPrints("", "mcpserver/web", ".status.image"))).
		Feature())
}

// TestTheFirstRunnerOfAStdioServer verifies that the pods of a stdio server without a command do not change when an operator with a runner replaces one
// without, whether the registry answers or not, and that the runner comes with the next change.
func TestTheFirstRunnerOfAStdioServer(t *testing.T) {
	images := newImageRegistry(t)
	digest := images.push(t, publicImage, v1.Config{Entrypoint: []string{"/server"}})
	images.fails.Store(true)
	var pods []types.UID
	samePods := step(func(ctx context.Context, t *testing.T) {
		t.Helper()
		if now := slices.Sorted(slices.Values(podUIDs(ctx, t))); !slices.Equal(now, pods) || !ready(mcpServer(ctx, t)) {
			t.Errorf("the pods were %v and are %v, %v", pods, now, mcpServer(ctx, t).Status.Conditions)
		}
	})
	testEnv.Test(t, feature("the first runner").
		Setup(all(apply(stdioOf(publicImage)), scaleIs(1), kubectl("scale", "statefulset", "web", "--replicas=2"), scaleIs(2),
			step(func(ctx context.Context, t *testing.T) { pods = slices.Sorted(slices.Values(podUIDs(ctx, t))) }))).
		Assess("changes no pod, and says that it lacks the command", all(images.operatorWith(""),
			conditionSays(v1beta1.ConditionUpdateAvailable, "OtherRevision", "the command of the server is unknown"), passesAreForced(2), samePods)).
		Assess("changes no pod when the registry is back", all(step(func(context.Context, *testing.T) { images.fails.Store(false) }), operatorRestarts(),
			imageStatusIs(publicImage, &digest), conditionSays(v1beta1.ConditionUpdateAvailable, "OtherRevision", `containers[name="mcp"].command`), passesAreForced(2), samePods)).
		Assess("comes with the next change", all(kubectl("patch", "mcpserver", "web", "--type=merge", "-p", `{"spec":{"args":["-v"]}}`),
			commandIs("/server", "-v"), scaleIs(2), conditionIsGone(v1beta1.ConditionUpdateAvailable))).
		Feature())
}

// TestAnImageWithoutACommand verifies that the reason is in the status, that the pods of the previous image keep running, and that the server starts when
// its image is there.
func TestAnImageWithoutACommand(t *testing.T) {
	const missing, broken = "registry.example.com/team/missing:1", "registry.example.com/team/broken:1"
	images := newImageRegistry(t)
	images.push(t, publicImage, v1.Config{Entrypoint: []string{"/server"}})
	images.push(t, broken, v1.Config{})
	becomes := func(image string) features.Func {
		return kubectl("patch", "mcpserver", "web", "--type=merge", "-p", fmt.Sprintf(`{"spec":{"image":%q}}`, image))
	}
	keepsRunning := all(passesAreForced(1), podsAreReady(1), step(func(ctx context.Context, t *testing.T) {
		t.Helper()
		if image := statefulSet(ctx, t).Spec.Template.Spec.Containers[0].Image; image != publicImage {
			t.Errorf("the pods run %s", image)
		}
	}))
	testEnv.Test(t, feature("an image").
		Setup(all(images.operatorWith(""), apply(stdioOf(missing)))).
		Assess("that does not exist stalls a new server, which has its Services", all(
			conditionSays(v1beta1.ConditionStalled, "CommandUnknown", "does not have the image", `--type=merge -p '{"spec":{"command":`),
			eventuallyPrints("mcp-web-proxy", "service/mcp-web-proxy", ".metadata.name"))).
		Assess("that exists runs", all(becomes(publicImage), commandIs("/server"), scaleIs(1))).
		Assess("that has no command keeps the pods", all(becomes(broken),
			conditionSays(v1beta1.ConditionStalled, "CommandUnknown", "neither an entrypoint nor a cmd", "its pods keep running"), keepsRunning)).
		Assess("of a registry that is down keeps the pods, and does not stall", all(step(func(context.Context, *testing.T) { images.fails.Store(true) }), becomes(missing+"0"),
			conditionSays(v1beta1.ConditionReconciling, "CommandUnknown", "does not work", "its pods keep running"), keepsRunning,
			step(func(ctx context.Context, t *testing.T) {
				if apimeta.IsStatusConditionTrue(mcpServer(ctx, t).Status.Conditions, v1beta1.ConditionStalled) {
					t.Error("the MCPServer is stalled")
				}
			}))).
		Assess("comes when the registry has it", all(step(func(_ context.Context, t *testing.T) {
			images.fails.Store(false)
			images.push(t, missing+"0", v1.Config{Cmd: []string{"late"}})
		}), commandIs("late"), scaleIs(1))).
		Feature())
}

// TestAPrivateImage verifies that the operator reads it with its own credentials only.
func TestAPrivateImage(t *testing.T) {
	images := newImageRegistry(t)
	digest := images.push(t, publicImage, v1.Config{Entrypoint: []string{"/private"}})
	testEnv.Test(t, feature("a private image").
		Setup(all(images.operatorWith(""), apply(stdioOf(privateImage)))).
		Assess("stalls", conditionSays(v1beta1.ConditionStalled, "CommandUnknown", "refuses access", "does not use spec.imagePullSecrets")).
		Assess("is read with the credentials of the operator", all(images.operatorWith(adminLogin), commandIs("/private"), scaleIs(1), imageStatusIs(privateImage, &digest))).
		Feature())
}
