package plan

import (
	"fmt"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/structured-merge-diff/v6/fieldpath"

	"mcpserver-operator/applyconfigs"
	"mcpserver-operator/reconcile/ownership"
)

// renumbered is a port of the operator whose number another writer has changed. The API server merges ports by number. An apply would add a
// second port with the same name, which the API server rejects.
type renumbered struct {
	pointer string // the JSON pointer to the number
	path    fieldpath.Path
	was     int32
	wanted  int32
}

// renumberedPort returns the correction of a renumbered port; nil if there is none.
func (m *maker) renumberedPort(step Step) (*correction, error) {
	var port *renumbered
	switch live := step.Live.(type) {
	case *appsv1.StatefulSet:
		port = containerPort(live, applyconfigs.ContainerPort(m.Server))
	case *corev1.Service:
		port = servicePort(live, applyconfigs.ProxyPort(m.Server))
	}
	if port == nil {
		return nil, nil
	}
	change, isTheirs, err := changeOf(step.Live, port.path, fmt.Sprintf("the number of port %s (to %d)", applyconfigs.PortName, port.was))
	if err != nil || !isTheirs {
		return nil, err
	}
	return &correction{
		reason: "another writer has changed the number of a port", undoes: []Change{change},
		patch: ownership.Operation{Op: "replace", Path: port.pointer, Value: port.wanted},
	}, nil
}

// servicePort returns the port of the operator in a Service if its number was changed.
func servicePort(service *corev1.Service, wanted int32) *renumbered {
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

// containerPort returns the port of the server container if its number was changed.
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
