package e2e

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/util/cert"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"
	"sigs.k8s.io/e2e-framework/pkg/features"

	"mcpserver-operator/crd/v1beta1"
	"mcpserver-operator/tests/cluster"
)

// TestAWebhookThatRewritesAFieldOfOurs verifies that the operator accepts an image that a mutating webhook rewrites, for example for a registry
// mirror. The operator must not apply the StatefulSet repeatedly, and must not report a fight with the webhook.
func TestAWebhookThatRewritesAFieldOfOurs(t *testing.T) {
	theCluster.NeedAuditLog(t)
	const mirrored = "mirror.example/server:"
	testEnv.Test(t, feature("a webhook rewrites the image").
		Assess("the webhook handles every StatefulSet", statefulSetsPassThrough(mirror)).
		Assess("the StatefulSet has the rewritten image, and the operator writes nothing more", all(
			apply(undeclared), scaleIs(1), imageIs(mirrored+"1"), writesNothing(passesAreForced(5)))).
		Assess("each change of the scale causes at most one apply, although the status changes several times", step(func(ctx context.Context, t *testing.T) {
			mark, err := theCluster.AuditMark()
			must(t, err)
			all(kubectl("scale", "statefulset", server, "--replicas=4"), scaleIs(4), kubectl("scale", "statefulset", server, "--replicas=2"), scaleIs(2),
				passesAreForced(2))(ctx, t, nil)
			requests, err := theCluster.RequestsSince(mark, cluster.OperatorUser)
			must(t, err)
			applies := 0
			for _, r := range requests {
				if r.IsWrite() && r.Namespace == in(ctx) && r.Resource == "statefulsets" && r.Code == http.StatusOK {
					applies++
				}
			}
			if applies > 2 {
				t.Errorf("%d applies of the StatefulSet for two changes of its scale", applies)
			}
		})).
		Assess("another image is rolled out", holds(2,
			apply(strings.Replace(undeclared, "server:1", "server:2", 1)), imageIs(mirrored+"2"), scaleIs(2))).
		Assess("the operator writes nothing more", writesNothing(passesAreForced(5))).
		// After a restart, the operator does not know what the webhook rewrites until its first apply, which changes nothing.
		Assess("the operator restarts, and writes nothing after its first pass", holds(2, operatorRestarts(), passesAreForced(1), writesNothing(passesAreForced(5)))).
		Assess("there are no more revisions than images", revisionsAre(2)).
		Assess("no fight is reported", all(
			conditionIsGone(v1beta1.ConditionFieldConflict), noEventSays("FieldFight"), noEventSays("FieldTakenBack"))).
		Assess("the webhook is removed, and the next edit rolls out the image of the MCPServer", holds(2,
			noWebhook(), apply(strings.Replace(undeclared, "server:1", "server:3", 1)), imageIs("registry.example/server:3"), scaleIs(2))).
		Feature())
}

// TestAWebhookThatWritesANewValueEachTime verifies that the operator stops after a few attempts, says so, and does not replace the pods for
// ever.
func TestAWebhookThatWritesANewValueEachTime(t *testing.T) {
	var calls atomic.Int32
	stamp := func(_ context.Context, request admission.Request) admission.Response {
		return rewriteImages(request, func(string) string { return fmt.Sprint("mirror.example/server:", calls.Add(1)) })
	}
	testEnv.Test(t, feature("a webhook sets another image each time").
		Assess("the server runs without the webhook", all(apply(undeclared), scaleIs(1), kubectl("scale", "statefulset", server, "--replicas=2"), scaleIs(2))).
		Assess("a new image is rewritten, and the condition says so", holds(2, statefulSetsPassThrough(stamp),
			apply(strings.Replace(undeclared, "server:1", "server:2", 1)),
			conditionSays(v1beta1.ConditionFieldConflict, "FieldFight", "somebody", "image", "webhook"))).
		Assess("the pods were replaced only a few times", step(func(ctx context.Context, t *testing.T) {
			passesAreForced(5)(ctx, t, nil)
			var revisions appsv1.ControllerRevisionList
			must(t, theCluster.Client.List(ctx, &revisions, client.InNamespace(in(ctx))))
			if len(revisions.Items) > 6 {
				t.Errorf("the StatefulSet has had %d revisions", len(revisions.Items))
			}
		})).
		Assess("without the webhook, the next edit is rolled out at once", holds(2,
			noWebhook(), apply(strings.Replace(undeclared, "server:1", "server:3", 1)), imageIs("registry.example/server:3"),
			conditionIsGone(v1beta1.ConditionFieldConflict))).
		Feature())
}

// TestANamespaceWhoseWritesHangHoldsUpNoOther verifies that writes that hang in one namespace do not block another namespace, even if the first
// namespace has more MCPServers than the operator has workers.
func TestANamespaceWhoseWritesHangHoldsUpNoOther(t *testing.T) {
	const (
		workers = 4 // the default of --concurrency
		servers = 2 * workers
	)
	released := make(chan struct{})
	release := sync.OnceFunc(func() { close(released) })
	defer release()
	var mutex sync.Mutex
	hanging := 0
	hang := func(ctx context.Context, _ admission.Request) admission.Response {
		mutex.Lock()
		hanging++
		mutex.Unlock()
		select {
		case <-released:
		case <-ctx.Done():
		}
		return admission.Allowed("")
	}
	testEnv.Test(t, feature("the writes of a namespace hang in a webhook").
		Assess("the writes for many MCPServers hang", all(statefulSetsPassThrough(hang), step(func(ctx context.Context, t *testing.T) {
			for i := range servers {
				apply(strings.Replace(undeclared, "name: web", fmt.Sprint("name: hangs-", i), 1))(ctx, t, nil)
			}
			eventually(ctx, t, "the writes of all workers for a namespace to hang", func(context.Context) (string, bool) {
				mutex.Lock()
				defer mutex.Unlock()
				return fmt.Sprint(hanging), hanging >= workers
			})
		}))).
		Assess("an MCPServer in another namespace is carried out in the meantime", step(func(_ context.Context, t *testing.T) {
			other := feature("another namespace").
				Assess("its MCPServer is Ready", all(apply(undeclared), scaleIs(1))).
				Assess("its image is rolled out", imageChanges("registry.example/server:2"))
			testEnv.Test(t, other.Feature())
			mutex.Lock()
			defer mutex.Unlock()
			if hanging > workers {
				t.Errorf("%d writes hung: the first %d did not hang all the time", hanging, workers)
			}
			release()
		})).
		Assess("the MCPServers whose writes hung are carried out afterwards", step(func(ctx context.Context, t *testing.T) {
			eventually(ctx, t, "all StatefulSets to exist", func(ctx context.Context) (string, bool) {
				var sets appsv1.StatefulSetList
				must(t, theCluster.Client.List(ctx, &sets, client.InNamespace(in(ctx))))
				return fmt.Sprint(len(sets.Items)), len(sets.Items) == servers
			})
		})).
		Feature())
}

// mirror rewrites the images of a StatefulSet to those of a mirror of their registry.
func mirror(_ context.Context, request admission.Request) admission.Response {
	return rewriteImages(request, func(image string) string { return strings.Replace(image, "registry.example/", "mirror.example/", 1) })
}

// rewriteImages rewrites the images of a StatefulSet.
func rewriteImages(request admission.Request, rewrite func(image string) string) admission.Response {
	set := &appsv1.StatefulSet{}
	if err := json.Unmarshal(request.Object.Raw, set); err != nil {
		return admission.Errored(http.StatusBadRequest, err)
	}
	for i := range set.Spec.Template.Spec.Containers {
		container := &set.Spec.Template.Spec.Containers[i]
		container.Image = rewrite(container.Image)
	}
	rewritten, err := json.Marshal(set)
	if err != nil {
		return admission.Errored(http.StatusInternalServerError, err)
	}
	return admission.PatchResponseFromRaw(request.Object.Raw, rewritten)
}

// webhookTimeout is how long the API server waits for the webhook of a test. It is the maximum that Kubernetes accepts.
const webhookTimeout = 30 * time.Second

// statefulSetsPassThrough registers a mutating webhook for the StatefulSets in the namespace of a test until the feature ends.
func statefulSetsPassThrough(handle admission.HandlerFunc) features.Func {
	return passThrough(appsv1.GroupName, "statefulsets", handle)
}

// passThrough is statefulSetsPassThrough for another kind of object.
func passThrough(group, resource string, handle admission.HandlerFunc) features.Func {
	return step(func(ctx context.Context, t *testing.T) {
		t.Helper()
		certificate, key, err := cert.GenerateSelfSignedCertKey("127.0.0.1", nil, nil)
		must(t, err)
		pair, err := tls.X509KeyPair(certificate, key)
		must(t, err)
		webhook := httptest.NewUnstartedServer(&admission.Webhook{Handler: handle})
		webhook.TLS = &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12}
		webhook.StartTLS()
		all(afterwards(step(func(context.Context, *testing.T) { webhook.Close() })), afterwards(noWebhook()))(ctx, t, nil)
		must(t, theCluster.Client.Create(ctx, &admissionv1.MutatingWebhookConfiguration{
			ObjectMeta: metav1.ObjectMeta{Name: in(ctx)},
			Webhooks: []admissionv1.MutatingWebhook{{
				Name:                    "rewrites.e2e.example",
				ClientConfig:            admissionv1.WebhookClientConfig{URL: ptr.To(webhook.URL), CABundle: certificate},
				NamespaceSelector:       &metav1.LabelSelector{MatchLabels: map[string]string{corev1.LabelMetadataName: in(ctx)}},
				AdmissionReviewVersions: []string{"v1"},
				SideEffects:             ptr.To(admissionv1.SideEffectClassNone),
				TimeoutSeconds:          ptr.To(int32(webhookTimeout.Seconds())),
				Rules: []admissionv1.RuleWithOperations{{
					Operations: []admissionv1.OperationType{admissionv1.Create, admissionv1.Update},
					Rule:       admissionv1.Rule{APIGroups: []string{group}, APIVersions: []string{"v1"}, Resources: []string{resource}},
				}},
			}},
		}))
	})
}

// noWebhook removes the webhook of the test.
func noWebhook() features.Func {
	return step(func(ctx context.Context, t *testing.T) {
		t.Helper()
		must(t, client.IgnoreNotFound(theCluster.Client.Delete(ctx,
			&admissionv1.MutatingWebhookConfiguration{ObjectMeta: metav1.ObjectMeta{Name: in(ctx)}})))
	})
}

// revisionsAre fails unless the namespace contains the given number of ControllerRevisions, one for each pod template of the StatefulSet.
func revisionsAre(number int) features.Func {
	return step(func(ctx context.Context, t *testing.T) {
		t.Helper()
		var revisions appsv1.ControllerRevisionList
		must(t, theCluster.Client.List(ctx, &revisions, client.InNamespace(in(ctx))))
		if len(revisions.Items) != number {
			t.Errorf("the StatefulSet has had %d revisions, want %d", len(revisions.Items), number)
		}
	})
}
