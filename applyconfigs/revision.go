package applyconfigs

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1ac "k8s.io/client-go/applyconfigurations/core/v1"

	"mcpserver-operator/crd/v1beta1"
)

// TemplateRevision is the revision of the pod templates that the builders build. It must be raised with each change of the pod template
// that the builders build for an unchanged MCPServer. TestAnotherPodTemplateIsAnotherRevision checks this. StatefulSets of another
// revision keep their pod template until there is another reason to restart their pods: see package plan.
const TemplateRevision = 3

// TemplateRecord identifies a pod template. It is the value of the annotation v1beta1.PodTemplateAnnotation of a StatefulSet.
type TemplateRecord struct {
	// Revision is the TemplateRevision of the operator that built the pod template.
	Revision int
	// Digest is the TemplateDigest of the pod template.
	Digest string
	// Inputs is the InputsDigest of the MCPServer for which the pod template was built; empty in the record of an operator that did not
	// record it.
	Inputs string
	// Runner identifies the image of the runner in the pod template; empty if it has none.
	Runner string
}

func (r TemplateRecord) String() string {
	record := strconv.Itoa(r.Revision) + ":" + r.Digest
	if r.Inputs != "" || r.Runner != "" {
		record += ":" + r.Inputs
	}
	if r.Runner != "" {
		record += ":" + r.Runner
	}
	return record
}

// Version identifies what has built the pod template: the revision of the builders and the image of the runner. An upgrade of the operator that
// changes neither changes no pod template.
func (r TemplateRecord) Version() string {
	if r.Runner == "" {
		return strconv.Itoa(r.Revision)
	}
	return strconv.Itoa(r.Revision) + "-" + r.Runner
}

// TemplateRecordIn reads one of the annotations of a StatefulSet. It reports false if the annotation is absent or is not a TemplateRecord.
func TemplateRecordIn(annotations map[string]string, annotation string) (TemplateRecord, bool) {
	number, digests, found := strings.Cut(annotations[annotation], ":")
	revision, err := strconv.Atoi(number)
	digest, rest, _ := strings.Cut(digests, ":")
	inputs, runner, _ := strings.Cut(rest, ":")
	return TemplateRecord{Revision: revision, Digest: digest, Inputs: inputs, Runner: runner}, found && err == nil
}

// recordOf returns the record of a pod template that the builders have built for an MCPServer.
func recordOf(server *v1beta1.MCPServer, template *corev1ac.PodTemplateSpecApplyConfiguration, cluster Cluster) (TemplateRecord, error) {
	digest, err := TemplateDigest(template)
	if err != nil {
		return TemplateRecord{}, err
	}
	inputs, err := InputsDigest(server, template.Annotations[v1beta1.RestartedAtAnnotation])
	record := newRecord(server, cluster)
	record.Digest, record.Inputs = digest, inputs
	return record, err
}

// TemplateVersion returns the Version of the pod template that the builders build for an MCPServer.
func TemplateVersion(server *v1beta1.MCPServer, cluster Cluster) string {
	return newRecord(server, cluster).Version()
}

// newRecord returns the part of a record that identifies what builds the pod template.
func newRecord(server *v1beta1.MCPServer, cluster Cluster) TemplateRecord {
	record := TemplateRecord{Revision: TemplateRevision}
	if HasRunner(server, cluster) {
		runner := sha256.Sum256([]byte(cluster.RunnerImage))
		record.Runner = hex.EncodeToString(runner[:4])
	}
	return record
}

// TemplateDigest returns a digest of a pod template. It does not depend on the process or on the order of keys.
func TemplateDigest(template *corev1ac.PodTemplateSpecApplyConfiguration) (string, error) {
	digest, err := digestOf(template)
	if err != nil {
		return "", fmt.Errorf("digesting the pod template: %w", err)
	}
	return digest, nil
}

// InputsDigest returns a digest of the fields of an MCPServer that may affect its pod template, and of the restart that it asks for. Unlike TemplateDigest, it does not depend on
// the builders: an operator of another revision computes the same digest for the same MCPServer. A new field of the spec must therefore have
// no default in the schema, or be left out here.
func InputsDigest(server *v1beta1.MCPServer, restartedAt string) (string, error) {
	spec := server.Spec
	spec.Replicas, spec.BackendReplicas, spec.ReplicasConflictPolicy, spec.Suspend = nil, nil, "", false
	spec.IgnoredFields, spec.RefusedFields = v1beta1.IgnoredFields{}, v1beta1.RefusedFields{}
	spec.Audit = nil // it had no effect before revision 3, and was not part of the digest
	spec.UpdateStrategy, spec.MinReadySeconds, spec.PodDisruptionBudget = nil, nil, nil
	spec.VolumeClaimTemplates, spec.PersistentVolumeClaimRetentionPolicy = nil, nil
	spec.SessionAffinity, spec.SessionAffinityTimeoutSeconds = "", nil
	spec.PermissionProfile, spec.ResourceOverrides = nil, nil
	if service := spec.Service; service != nil {
		spec.Service = nil
		if len(service.IPFamilies) > 0 {
			spec.Service = &v1beta1.ClientService{IPFamilies: service.IPFamilies}
		}
	}
	var inputs any = spec
	if restartedAt != "" {
		inputs = []any{spec, restartedAt}
	}
	digest, err := digestOf(inputs)
	if err != nil {
		return "", fmt.Errorf("digesting the MCPServer: %w", err)
	}
	return digest, nil
}

// IsOfSameInputs reports whether the pod template of a StatefulSet was built for an MCPServer with the same InputsDigest. It reports false for the
// StatefulSet of an operator that did not record it, and for nil.
func IsOfSameInputs(server *v1beta1.MCPServer, fixed Fixed, set *appsv1.StatefulSet) (bool, error) {
	if set == nil {
		return false, nil
	}
	recorded, _ := TemplateRecordIn(set.Annotations, v1beta1.PodTemplateAnnotation)
	if recorded.Inputs == "" {
		return false, nil
	}
	inputs, err := InputsDigest(server, RestartedAt(server, fixed))
	return inputs == recorded.Inputs, err
}

// RestartedAt returns the last restart that the MCPServer asks for, or has asked for; empty if there is none.
func RestartedAt(server *v1beta1.MCPServer, fixed Fixed) string {
	return cmp.Or(server.Annotations[v1beta1.RestartedAtAnnotation], fixed.RestartedAt)
}

// digestOf returns a digest of a value in JSON, whatever the order of its keys.
func digestOf(value any) (string, error) {
	content, err := json.Marshal(value)
	if err != nil {
		return "", err
	}
	var sorted any
	if err := json.Unmarshal(content, &sorted); err != nil {
		return "", err
	}
	if content, err = json.Marshal(sorted); err != nil { // json sorts the keys of maps
		return "", err
	}
	digest := sha256.Sum256(content)
	return hex.EncodeToString(digest[:16]), nil
}
