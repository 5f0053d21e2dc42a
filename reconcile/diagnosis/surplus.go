package diagnosis

import (
	"fmt"
	"strings"
)

// SurplusPods is the reason of a finding of Surplus.
const SurplusPods Reason = "SurplusPods"

// Surplus says which pods of a StatefulSet to delete by hand: the controller deletes none above the scale while it cannot
// create one below (kubernetes/kubernetes#140858), and a quota that is full with them keeps it from creating one. Because is
// why pods cannot be created; nil when that is not known.
func Surplus(namespace string, scale int32, missing, surplus []string, because *Finding) Finding {
	message := fmt.Sprintf("%s are above the scale of %d, and Kubernetes does not delete them while it cannot create %s (kubernetes/kubernetes#140858). "+
		"Run: kubectl -n %s delete pod %s", list(surplus), scale, missing[0], namespace, strings.Join(surplus, " "))
	if because != nil {
		message += "; " + because.Message
	}
	return Finding{SurplusPods, message}
}

// list names pods in a sentence.
func list(pods []string) string {
	if len(pods) == 1 {
		return "pod " + pods[0]
	}
	return "pods " + strings.Join(pods[:len(pods)-1], ", ") + " and " + pods[len(pods)-1]
}
