package reconcile

import (
	"context"
	"fmt"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/structured-merge-diff/v6/fieldpath"

	"mcpserver-operator/applyconfigs"
	"mcpserver-operator/reconcile/ownership"
)

// renumbered is a port of the operator's that somebody gave another number. Ports are merged by their number, so that an
// apply would add a second one of the same name beside it, which the API server refuses.
type renumbered struct {
	pointer string // the JSON pointer of the number
	path    fieldpath.Path
	was     int32
	wanted  int32
}

// renumberPort gives such a port its number back, and reports whether there was one. The apply comes with the next pass.
func (r *Reconciler) renumberPort(ctx context.Context, p *pass, kind string, live client.Object, port *renumbered) (bool, error) {
	if port == nil {
		return false, nil
	}
	owners, err := ownership.OwnersOf(live, port.path)
	if err != nil {
		return false, err
	}
	if ownership.Owns(owners, self) {
		return false, nil // the MCPServer has changed it: the apply takes the old number away
	}
	taken := takeover{manager: somebody, fields: []string{fmt.Sprintf("the number of port %s, to %d,", applyconfigs.PortName, port.was)}}
	if len(owners) > 0 {
		taken.manager = owners[0].Name
	}
	all := []takeover{taken}
	if p.backsOff(r.fights.next(live, all, p.now), live, all) {
		return true, nil
	}
	err = r.patch(ctx, live, []ownership.Operation{
		{Op: "test", Path: "/metadata/resourceVersion", Value: live.GetResourceVersion()},
		{Op: "replace", Path: port.pointer, Value: port.wanted},
	})
	if err != nil {
		return false, fmt.Errorf("putting a port of %q back: %w", live.GetName(), err)
	}
	p.wrote, p.migrated = true, true
	r.fights.count(live, all, p.now)
	r.recordTakeovers(p.server, kind, live, all)
	return true, nil
}

// servicePort returns the port of a Service of the operator's if it has another number.
func servicePort(service *corev1.Service, wanted int32) *renumbered {
	if service == nil {
		return nil
	}
	for i, port := range service.Spec.Ports {
		if port.Name == applyconfigs.PortName && port.Port != wanted {
			return &renumbered{
				pointer: fmt.Sprintf("/spec/ports/%d/port", i), was: port.Port, wanted: wanted,
				path: fieldpath.MakePathOrDie("spec", "ports",
					fieldpath.KeyByFields("port", int(port.Port), "protocol", string(port.Protocol)), "port"),
			}
		}
	}
	return nil
}

// containerPort returns the port of the container of the server if it has another number.
func containerPort(set *appsv1.StatefulSet, wanted int32) *renumbered {
	for i := range set.Spec.Template.Spec.Containers {
		container := &set.Spec.Template.Spec.Containers[i]
		for j, port := range container.Ports {
			if container.Name == applyconfigs.ContainerName && port.Name == applyconfigs.PortName && port.ContainerPort != wanted {
				return &renumbered{
					pointer: fmt.Sprintf("/spec/template/spec/containers/%d/ports/%d/containerPort", i, j),
					was:     port.ContainerPort, wanted: wanted,
					path: fieldpath.MakePathOrDie("spec", "template", "spec",
						"containers", fieldpath.KeyByFields("name", container.Name),
						"ports", fieldpath.KeyByFields("containerPort", int(port.ContainerPort), "protocol", string(port.Protocol)),
						"containerPort"),
				}
			}
		}
	}
	return nil
}
