package e2e

import (
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"
	"sigs.k8s.io/e2e-framework/pkg/features"

	"mcpserver-operator/crd/v1beta1"
)

// reloads is the write of Reloader when a Secret changes, as Reloader sends it: a strategic merge patch with its field manager, of an
// environment variable with the digest of the Secret, and of an annotation of the pod template. Reloader itself does not run.
func reloads(digest string) features.Func {
	return kubectl("patch", "statefulset", server, "--type=strategic", "--field-manager=Reloader", "-p", `{"spec":{"template":{
		"metadata":{"annotations":{"reloader.stakater.com/last-reloaded-from":"{\"type\":\"SECRET\",\"name\":\"credentials\",\"hash\":\"`+digest+`\"}"}},
		"spec":{"containers":[{"name":"mcp","env":[{"name":"STAKATER_CREDENTIALS_SECRET","value":"`+digest+`"}]}]}}}}`)
}

// injects is a webhook for pods that does what two webhooks do: that of Istio adds a sidecar, an annotation and a label, and that of the
// VerticalPodAutoscaler sets resources and an annotation. Neither of them runs.
func injects(_ context.Context, request admission.Request) admission.Response {
	var pod corev1.Pod
	if err := json.Unmarshal(request.Object.Raw, &pod); err != nil {
		return admission.Errored(http.StatusBadRequest, err)
	}
	if pod.Annotations == nil {
		pod.Annotations = map[string]string{}
	}
	pod.Annotations["sidecar.istio.io/status"] = `{"initContainers":["istio-proxy"]}`
	pod.Annotations["vpaUpdates"] = "Pod resources updated by web: container 0: memory request"
	pod.Labels["security.istio.io/tlsMode"] = "istio"
	pod.Spec.Containers[0].Resources.Requests = corev1.ResourceList{corev1.ResourceMemory: resource.MustParse("100Mi")}
	if len(pod.Spec.InitContainers) == 0 {
		pod.Spec.InitContainers = []corev1.Container{{
			Name: "istio-proxy", Image: "registry.example/proxy:1", RestartPolicy: ptr.To(corev1.ContainerRestartPolicyAlways),
			SecurityContext: &corev1.SecurityContext{
				AllowPrivilegeEscalation: ptr.To(false), Capabilities: &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}},
			},
		}}
	}
	injected, err := json.Marshal(pod)
	if err != nil {
		return admission.Errored(http.StatusInternalServerError, err)
	}
	return admission.PatchResponseFromRaw(request.Object.Raw, injected)
}

// TestControllersThatChangePods verifies that what Reloader, Istio and a VerticalPodAutoscaler write survives, and that the operator writes
// nothing because of it and reports no fight.
func TestControllersThatChangePods(t *testing.T) {
	theCluster.NeedAuditLog(t)
	const variable = `.spec.template.spec.containers[?(@.name=="mcp")].env[?(@.name=="STAKATER_CREDENTIALS_SECRET")].value`
	survives := func(image, digest string) features.Func {
		return all(imageIs(image), eventuallyPrints(digest, "statefulset/web", variable),
			eventuallyPrints("istio-proxy", "pod/web-1", ".spec.initContainers[*].name"),
			eventuallyPrints("100Mi", "pod/web-1", ".spec.containers[0].resources.requests.memory"),
			eventuallyPrints("istio", "pod/web-1", `.metadata.labels.security\.istio\.io/tlsMode`),
			eventuallyPrints(digest, "pod/web-1", `.spec.containers[?(@.name=="mcp")].env[?(@.name=="STAKATER_CREDENTIALS_SECRET")].value`))
	}
	const first, second = "registry.example/server:1", "registry.example/server:2"
	testEnv.Test(t, feature("Reloader, Istio and a VerticalPodAutoscaler").
		Setup(all(passThrough(corev1.GroupName, "pods", injects), scaledToTwo(undeclared))).
		Assess("a reload replaces the pods, and the operator writes no child", holds(2, writesNoChild(all(reloads("a"), survives(first, "a"), passesAreForced(3))))).
		Assess("what they write survives a restart of the operator", holds(2, operatorRestarts(), passesAreForced(1), survives(first, "a"))).
		Assess("and a new image", holds(2, apply(strings.Replace(undeclared, "server:1", "server:2", 1)), survives(second, "a"), scaleIs(2))).
		Assess("and another reload", holds(2, writesNoChild(all(reloads("b"), survives(second, "b"), passesAreForced(3))))).
		Assess("no fight is reported", all(conditionIsGone(v1beta1.ConditionFieldConflict), noEventSays("FieldFight"), noEventSays("FieldTakenBack"))).
		Assess("the plugin names the owner", plugin(exitOK, []string{
			"Reloader (Update)", `env[name="STAKATER_CREDENTIALS_SECRET"]`, "last-reloaded-from",
		}, "explain", server)).
		Feature())
}
