package diagnosis

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/utils/ptr"
)

// SurplusPods is the reason of a finding of Surplus.
const SurplusPods Reason = "SurplusPods"

// OutOfPlace returns the names of the missing and of the surplus pods of a StatefulSet, each ordered by ordinal. A pod that is being
// deleted is neither missing nor surplus. Pods must be the pods that the StatefulSet controls.
func OutOfPlace(set *appsv1.StatefulSet, pods []*corev1.Pod) (missing, surplus []string) {
	var first int32
	if set.Spec.Ordinals != nil {
		first = set.Spec.Ordinals.Start
	}
	behind := first + ptr.Deref(set.Spec.Replicas, 1)
	has := map[int32]bool{}
	var above []int32
	for _, pod := range pods {
		ordinal, isOrdinal := ordinalOf(set.Name, pod.Name)
		switch {
		case !isOrdinal:
		case first <= ordinal && ordinal < behind:
			has[ordinal] = true
		case pod.DeletionTimestamp.IsZero():
			above = append(above, ordinal)
		}
	}
	slices.Sort(above)
	for ordinal := first; ordinal < behind; ordinal++ {
		if !has[ordinal] {
			missing = append(missing, nameOf(set.Name, ordinal))
		}
	}
	for _, ordinal := range above {
		surplus = append(surplus, nameOf(set.Name, ordinal))
	}
	return missing, surplus
}

func nameOf(set string, ordinal int32) string {
	return set + "-" + strconv.FormatInt(int64(ordinal), 10)
}

func ordinalOf(set, pod string) (int32, bool) {
	number, isOf := strings.CutPrefix(pod, set+"-")
	ordinal, err := strconv.ParseInt(number, 10, 32)
	return int32(ordinal), isOf && err == nil
}

// mostSurplus is the maximum number of pods in a command. More would fit into a message, but would be hard to read.
const mostSurplus = 20

// Surplus returns which pods of a StatefulSet to delete by hand. The controller does not delete pods above the scale while it cannot create
// a missing pod (kubernetes/kubernetes#140858), and with these pods a quota may stay exhausted. Because is why pods cannot be created; nil
// if unknown.
func Surplus(namespace string, scale int32, missing, surplus []string, because *Finding) Finding {
	named := surplus[max(0, len(surplus)-mostSurplus):]
	message := fmt.Sprintf("%s above the scale of %d. Kubernetes does not delete such pods while it cannot create %s (kubernetes/kubernetes#140858). "+
		"Run: kubectl -n %s delete pod %s", are(named), scale, missing[0], namespace, strings.Join(named, " "))
	if more := len(surplus) - len(named); more > 0 {
		message += fmt.Sprintf("; then delete %d more in the same way", more)
	}
	if because != nil {
		message += "; " + because.Message
	}
	return Finding{SurplusPods, message}
}

// are returns the subject and the verb of a sentence about pods.
func are(pods []string) string {
	if len(pods) == 1 {
		return "pod " + pods[0] + " is"
	}
	return "pods " + strings.Join(pods[:len(pods)-1], ", ") + " and " + pods[len(pods)-1] + " are"
}
