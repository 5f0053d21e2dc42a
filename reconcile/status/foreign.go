package status

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"mcpserver-operator/crd/v1beta1"
	"mcpserver-operator/reconcile/observe"
)

// mostManagers is the maximum number of field managers of a foreign object that a message names.
const mostManagers = 5

// foreignConditions returns the conditions about objects with the name of a child that the MCPServer does not control; nil if there are
// none. The garbage collector deletes the objects of an earlier MCPServer of the same name.
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
			". The operator continues automatically when the name is free or this MCPServer controls the object")
	case len(leftover) > 0:
		return reconciling(reasonProgressing, fmt.Sprintf("the Kubernetes garbage collector has not yet deleted %s of an earlier "+
			"MCPServer of this name. The operator continues automatically after the deletion", strings.Join(leftover, " and ")))
	default:
		return nil
	}
}

// toolHiveMessage returns that ToolHive's operator is in charge of an MCPServer, with the command that takes the MCPServer over.
func toolHiveMessage(server *v1beta1.MCPServer) string {
	return fmt.Sprintf("the MCPServer has the finalizer %s of ToolHive's operator. This operator writes only the status, until the MCPServer is taken over. Run: "+
		"kubectl mcpserver takeover %s -n %s", v1beta1.ToolHiveFinalizer, server.Name, server.Namespace)
}

func foreignMessage(server *v1beta1.MCPServer, object observe.Foreign) string {
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
		return message + ". Its owner reference was removed. To restore the owner reference, run: " + adoptCommand(server, object)
	}
	if object.MadeBefore {
		return message + fmt.Sprintf(". ToolHive's operator created it. To take it over, run: kubectl mcpserver takeover %s -n %s. "+
			"Without the plugin, stop that operator, delete its Deployment %q, which would write it again, and run: %s",
			server.Name, server.Namespace, server.Name, adoptCommand(server, object))
	}
	return message + ". Delete it, or give this MCPServer another name"
}

// adoptCommand returns the command that makes an MCPServer the controller of an object, instead of any other.
func adoptCommand(server *v1beta1.MCPServer, object observe.Foreign) string {
	references := slices.DeleteFunc(slices.Clone(object.References), func(reference metav1.OwnerReference) bool {
		return ptr.Deref(reference.Controller, false)
	})
	references = append(references, metav1.OwnerReference{
		APIVersion: v1beta1.GroupVersion.String(), Kind: "MCPServer", Name: server.Name, UID: server.UID,
		Controller: ptr.To(true), BlockOwnerDeletion: ptr.To(true),
	})
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{"ownerReferences": references}})
	if err != nil {
		return err.Error()
	}
	// Anybody who may write the object chooses the names in its owner references. A quote would end the argument of the command.
	quoted := strings.ReplaceAll(string(patch), "'", `\u0027`)
	return fmt.Sprintf("kubectl -n %s patch %s %s --type=merge -p '%s'", server.Namespace, strings.ToLower(object.Kind), object.Name, quoted)
}
