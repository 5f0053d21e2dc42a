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

// TemplateRevision is the revision of the pod templates that the builders build. It must be raised with each change of the pod template
// that the builders build for an unchanged MCPServer. TestAnotherPodTemplateIsAnotherRevision checks this. StatefulSets of another
// revision keep their pod template until there is another reason to restart their pods: see package plan.
const TemplateRevision = 1

// TemplateRecord identifies a pod template. It is the value of the annotation v1beta1.PodTemplateAnnotation of a StatefulSet.
type TemplateRecord struct {
	// Revision is the TemplateRevision of the operator that built the pod template.
	Revision int
	// Digest is the TemplateDigest of the pod template.
	Digest string
}

func (r TemplateRecord) String() string { return strconv.Itoa(r.Revision) + ":" + r.Digest }

// TemplateRecordIn reads an annotation of a StatefulSet. It reports false if the annotation is absent or is not a TemplateRecord.
func TemplateRecordIn(set *appsv1.StatefulSet, annotation string) (TemplateRecord, bool) {
	number, digest, found := strings.Cut(set.Annotations[annotation], ":")
	revision, err := strconv.Atoi(number)
	return TemplateRecord{Revision: revision, Digest: digest}, found && err == nil
}

// madeTemplate returns the record of a pod template that the builders have built.
func madeTemplate(template *corev1ac.PodTemplateSpecApplyConfiguration) (TemplateRecord, error) {
	digest, err := TemplateDigest(template)
	return TemplateRecord{Revision: TemplateRevision, Digest: digest}, err
}

// TemplateDigest returns a digest of a pod template. It does not depend on the process or on the order of keys.
func TemplateDigest(template *corev1ac.PodTemplateSpecApplyConfiguration) (string, error) {
	content, err := json.Marshal(template)
	if err != nil {
		return "", fmt.Errorf("encoding the pod template: %w", err)
	}
	var sorted any
	if err := json.Unmarshal(content, &sorted); err != nil {
		return "", fmt.Errorf("decoding the pod template: %w", err)
	}
	if content, err = json.Marshal(sorted); err != nil { // json sorts the keys of maps
		return "", fmt.Errorf("encoding the pod template: %w", err)
	}
	digest := sha256.Sum256(content)
	return hex.EncodeToString(digest[:16]), nil
}
