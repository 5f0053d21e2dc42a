package e2e

import (
	"strings"
	"testing"

	"sigs.k8s.io/e2e-framework/pkg/features"
)

// withService returns an MCPServer with settings of its Service.
func withService(settings string) features.Func {
	return apply(strings.Replace(undeclared, `:1"`, `:1", service: {`+settings+`}`, 1))
}

// TestTheServiceCanLeaveDualStack: Kubernetes keeps both families of a Service unless the policy says otherwise.
func TestTheServiceCanLeaveDualStack(t *testing.T) {
	const service = "service/mcp-web-proxy"
	testEnv.Test(t, feature("a Service with both families").
		Setup(all(withService("ipFamilies: [IPv4, IPv6]"), eventuallyPrints(`["IPv4","IPv6"]`, service, ".spec.ipFamilies"))).
		Assess("stays dual-stack when the field is removed", all(apply(undeclared), passesAreForced(1), scaleIs(1),
			eventuallyPrints(`["IPv4","IPv6"]`, service, ".spec.ipFamilies"))).
		Assess("becomes single-stack with one family, and writes nothing more", all(withService("ipFamilies: [IPv4]"),
			eventuallyPrints(`["IPv4"]`, service, ".spec.ipFamilies"), eventuallyPrints("SingleStack", service, ".spec.ipFamilyPolicy"),
			writesNothing(passesAreForced(2)))).
		Feature())
}

// TestThePortOfTheService verifies the node port and the application protocol, and that others may set them if the MCPServer does not.
func TestThePortOfTheService(t *testing.T) {
	const service = "service/mcp-web-proxy"
	testEnv.Test(t, feature("the port").
		Assess("has what the MCPServer declares", all(withService("type: NodePort, nodePort: 31234, appProtocol: http"),
			eventuallyPrints("31234 http", service, ".spec.ports[0]['nodePort','appProtocol']"), writesNothing(passesAreForced(2)))).
		Assess("keeps what another client sets", all(withService("type: NodePort"), eventuallyPrints("", service, ".spec.ports[0].appProtocol"),
			kubectl("patch", service, "--type=strategic", "-p", `{"spec":{"ports":[{"port":8080,"appProtocol":"kubernetes.io/h2c"}]}}`),
			passesAreForced(2), eventuallyPrints("kubernetes.io/h2c", service, ".spec.ports[0].appProtocol"))).
		Assess("a label selects one of the Services", all(
			printed([]string{"service/mcp-web-proxy"}, "get", "service", "-o", "name", "-l", "app.kubernetes.io/instance=web,toolhive.stacklok.dev/service=client"),
			printed([]string{"service/mcp-web-headless"}, "get", "service", "-o", "name", "-l", "app.kubernetes.io/instance=web,toolhive.stacklok.dev/service=headless"))).
		Feature())
}
