package status

import (
	"encoding/json"
	"fmt"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"mcpserver-operator/crd/v1alpha1"
	"mcpserver-operator/reconcile/observe"
)

// mostManagers bounds how many field managers of a foreign object a message names.
const mostManagers = 5

// foreignConditions say which objects of children's names the MCPServer does not control; nil if there are none. Those of an earlier
// MCPServer of the name go by themselves.
func foreignConditions(s *observe.Snapshot) []metav1.Condition {
	var foreign, leftover []string
	for _, object := range s.Foreign {
		if object.Leftover {
			leftover = append(leftover, object.String())
		} else {
			foreign = append(foreign, foreignMessage(s.Server, object))
		}
	}
	switch {
	case len(foreign) > 0:
		return stalled(reasonNotControlled, strings.Join(foreign, ". ")+
			". The operator continues by itself when the name is free or the object is controlled by this MCPServer")
	case len(leftover) > 0:
		return reconciling(reasonProgressing, fmt.Sprintf("%s of an earlier MCPServer of this name is still being deleted by the garbage "+
			"collector of Kubernetes", strings.Join(leftover, " and ")))
	default:
		return nil
	}
}

func foreignMessage(server *v1alpha1.MCPServer, object observe.Foreign) string {
	whose := "nothing controls it"
	if object.Owner != "" {
		whose = object.Owner + " controls it"
	}
	if managers := object.Managers[:min(len(object.Managers), mostManagers)]; len(managers) > 0 {
		quoted := make([]string, len(managers))
		for i, manager := range managers {
			quoted[i] = fmt.Sprintf("%q", manager)
		}
		whose += ", and it was written by " + strings.Join(quoted, ", ")
	}
	message := fmt.Sprintf("%s exists and is not controlled by this MCPServer: %s. The operator does not modify it", object.Child, whose)
	if object.Made {
		return message + ". It has lost its owner reference. To give it back, run: " + adoptCommand(server, object)
	}
	return message + ". Delete it, or give this MCPServer another name"
}

// adoptCommand gives an object that the operator has made its owner reference back.
func adoptCommand(server *v1alpha1.MCPServer, object observe.Foreign) string {
	references := append([]metav1.OwnerReference{}, object.References...)
	references = append(references, metav1.OwnerReference{
		APIVersion: v1alpha1.GroupVersion.String(), Kind: "MCPServer", Name: server.Name, UID: server.UID,
		Controller: ptr.To(true), BlockOwnerDeletion: ptr.To(true),
	})
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{"ownerReferences": references}})
	if err != nil {
		return err.Error()
	}
	return fmt.Sprintf("kubectl -n %s patch %s %s --type=merge -p '%s'", server.Namespace, strings.ToLower(object.Kind), object.Name, patch)
}
