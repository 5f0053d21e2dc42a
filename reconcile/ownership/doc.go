// Package ownership reads and edits metadata.managedFields, in which the API server records the owner of each field of an object. With it, an
// operator that writes with server-side apply can leave a field to others and take it over again, and no value changes in between. The
// package is pure: it takes an object as it was read, and returns owners or a JSON patch. It sends no requests, works with all kinds of
// objects, and does not depend on the rest of this module.
//
// # Which function for what
//
//   - Who owns this field? [OwnersOf], and [Owns] for one manager.
//   - Stop owning a field, and keep its value: [Release]. Do this before the first apply that leaves the field out. Such an apply would
//     otherwise remove the field, or reset it to its default.
//   - Own with server-side apply what a former version or another tool wrote with create and update: [Migrate]. Except the fields that you
//     want to leave to others.
//   - Give a field to another manager, for example to an autoscaler: [Move].
//   - Somebody emptied managedFields: [IsLost] detects it, and [Repair] restores the entry of your manager.
//
// Each function that returns a patch returns nil if there is nothing to do. Send the patch as [k8s.io/apimachinery/pkg/types.JSONPatchType]. The
// first operation of each patch tests the resourceVersion that was read. If the object has changed since, the API server answers with the
// status 422 (Invalid, not Conflict), and nothing changes: read the object again, and decide again.
//
// docs/operator-authors.md has the rules and the traps of field ownership, each with a test against a real API server.
//
// # Stability
//
// The package is made to be copied: its module has no import path on the internet. Copy the folder, with the license of the repository. It
// needs k8s.io/apimachinery and sigs.k8s.io/structured-merge-diff, in the major version of your client-go.
//
// Exported names are not removed, and do not change their signature or meaning. Names may be added. An error may get another text. The
// operations of a patch may change if their effect is the same, so do not compare patches. A release note says if a behavior of the API
// server on which the package relies has changed. tests/facts tests these behaviors on every supported version of Kubernetes.
package ownership
