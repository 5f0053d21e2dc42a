package applyconfigs

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1ac "k8s.io/client-go/applyconfigurations/core/v1"
)

// TemplateRevision is the revision of the pod templates that the builders make. It has to be raised with each change of what they make for
// one and the same MCPServer, which a test sees. StatefulSets of another revision keep their pod template until there is a reason to
// restart their pods: see package plan.
const TemplateRevision = 1

// TemplateRecord identifies a pod template in an annotation of its StatefulSet: v1alpha1.PodTemplateAnnotation.
type TemplateRecord struct {
	// Revision is the TemplateRevision of the operator that made it.
	Revision int
	// Digest is that of the pod template: see TemplateDigest.
	Digest string
}

func (r TemplateRecord) String() string { return strconv.Itoa(r.Revision) + ":" + r.Digest }

// TemplateRecordIn reads an annotation of a StatefulSet. It reports false if there is none, or if somebody has written something else into it.
func TemplateRecordIn(set *appsv1.StatefulSet, annotation string) (TemplateRecord, bool) {
	number, digest, found := strings.Cut(set.Annotations[annotation], ":")
	revision, err := strconv.Atoi(number)
	return TemplateRecord{Revision: revision, Digest: digest}, found && err == nil
}

// madeTemplate identifies a pod template that the builders have made.
func madeTemplate(template *corev1ac.PodTemplateSpecApplyConfiguration) (TemplateRecord, error) {
	digest, err := TemplateDigest(template)
	return TemplateRecord{Revision: TemplateRevision, Digest: digest}, err
}

// TemplateDigest tells pod templates from each other. It is the same in every process and for every order of keys.
func TemplateDigest(template *corev1ac.PodTemplateSpecApplyConfiguration) (string, error) {
	content, err := json.Marshal(template)
	if err != nil {
		return "", fmt.Errorf("writing the pod template: %w", err)
	}
	var sorted any
	if err := json.Unmarshal(content, &sorted); err != nil {
		return "", fmt.Errorf("reading the pod template: %w", err)
	}
	if content, err = json.Marshal(sorted); err != nil { // maps are written in order
		return "", fmt.Errorf("writing the pod template: %w", err)
	}
	digest := sha256.Sum256(content)
	return hex.EncodeToString(digest[:16]), nil
}
