package node

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/util/cert"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"mcpserver-operator/tests/cluster"
	"mcpserver-operator/tests/images"
)

// authorities is the name of the ConfigMap with the certificate authority of the registry, in the namespace of the operator.
const authorities = "registry-ca"

// TestTheCommandOfAnImageComesFromItsRegistry verifies that a stdio server without a command runs that of its image. The operator reads it from a registry
// in the cluster, whose certificate authority the chart gives to the operator.
func TestTheCommandOfAnImageComesFromItsRegistry(t *testing.T) {
	var image, digest string
	ofTheImage := step(func(ctx context.Context, t *testing.T) {
		t.Helper()
		apply(fmt.Sprintf("apiVersion: toolhive.stacklok.dev/v1beta1\nkind: MCPServer\nmetadata: {name: tools}\nspec: {image: %q, replicas: 2}\n", image))(ctx, t, nil)
	})
	testEnv.Test(t, feature("an image", "restricted").
		Setup(all(operatorHasRunner(), afterwards(step(func(ctx context.Context, t *testing.T) {
			must(t, client.IgnoreNotFound(theCluster.Client.Delete(ctx, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: cluster.OperatorNamespace, Name: authorities}})))
		})), step(func(ctx context.Context, t *testing.T) { image, digest = inRegistry(ctx, t) }))).
		Assess("of a registry that the operator does not trust has no command", all(ofTheImage,
			readySays("tools", metav1.ConditionFalse, "CommandUnknown", "its certificate is not valid"))).
		Assess("runs when the chart has the authority of the registry", all(
			step(func(ctx context.Context, t *testing.T) {
				must(t, upgrade(ctx, firstVersion, true, "imageLookup.caConfigMap="+authorities))
			}), scaleIs("tools", 2),
			aClient("tools", succeeded, withSessions, "-tool=test_simple_text", "-count=20"))).
		Assess("is in the status with its digest", step(func(ctx context.Context, t *testing.T) {
			t.Helper()
			eventually(ctx, t, "the image in the status", func(ctx context.Context) (string, bool) {
				got := mcpServer(ctx, t, "tools").Status.Image
				return fmt.Sprintf("%+v, want %s, %s", got, image, digest), got != nil && got.Reference == image && got.Digest == digest
			})
		})).
		Feature())
}

// inRegistry starts a registry behind a Service in the namespace of the test, with a certificate authority of its own, which the ConfigMap has. The registry
// has a stdio server, whose image the nodes have too, because they cannot pull.
func inRegistry(ctx context.Context, t *testing.T) (image, digest string) {
	t.Helper()
	host := "registry." + in(ctx) + ".svc.cluster.local"
	certificate, key, err := cert.GenerateSelfSignedCertKey(host, nil, nil)
	must(t, err)
	must(t, theCluster.Client.Create(ctx, &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Namespace: cluster.OperatorNamespace, Name: authorities}, Data: map[string]string{"ca.crt": string(certificate)},
	}))

	listener, err := theCluster.Listen(ctx)
	must(t, err)
	address, port, err := net.SplitHostPort(listener.Addr().String())
	must(t, err)
	pair, err := tls.X509KeyPair(certificate, key)
	must(t, err)
	quiet := log.New(io.Discard, "", 0)
	store := registry.New(registry.Logger(quiet))
	server := &http.Server{
		Handler: store, TLSConfig: &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12}, ReadHeaderTimeout: time.Minute, ErrorLog: quiet,
	}
	go func() { _ = server.ServeTLS(listener, "", "") }() // it ends with Close
	t.Cleanup(func() { _ = server.Close() })
	apply(fmt.Sprintf(`
apiVersion: v1
kind: Service
metadata: {name: registry}
spec: {ports: [{name: https, port: 443}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: registry, labels: {kubernetes.io/service-name: registry}}
addressType: IPv4
ports: [{name: https, port: %s}]
endpoints: [{addresses: [%s]}]
`, port, address))(ctx, t, nil)

	image = host + "/tools:1"
	return image, push(ctx, t, store, image)
}

// push stores a stdio server in a registry and in the nodes, and returns its digest.
func push(ctx context.Context, t *testing.T, store http.Handler, image string) string {
	t.Helper()
	dir, err := images.Folder()
	must(t, err)
	img, err := images.GoEverything(ctx, dir)
	must(t, err)
	config, err := img.ConfigFile()
	must(t, err)
	img, err = mutate.Config(img, v1.Config{User: config.Config.User, Entrypoint: config.Config.Entrypoint})
	must(t, err)
	must(t, load(ctx, image, img))
	outside := httptest.NewServer(store) // the test does not reach the network of the pods
	defer outside.Close()
	_, path, _ := strings.Cut(image, "/")
	at, err := name.ParseReference(strings.TrimPrefix(outside.URL, "http://") + "/" + path)
	must(t, err)
	must(t, remote.Write(at, img, remote.WithContext(ctx)))
	digest, err := img.Digest()
	must(t, err)
	return digest.String()
}
