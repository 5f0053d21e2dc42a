package cluster

import (
	"context"
	"fmt"

	authorizationv1 "k8s.io/api/authorization/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// MayPatchStatefulSets returns whether a user may patch StatefulSets in a namespace, as an operator does. The API server notices a new binding only
// after a moment.
func (c *Cluster) MayPatchStatefulSets(ctx context.Context, user, namespace string) (bool, error) {
	review := &authorizationv1.SubjectAccessReview{Spec: authorizationv1.SubjectAccessReviewSpec{
		User:               user,
		ResourceAttributes: &authorizationv1.ResourceAttributes{Verb: "patch", Group: "apps", Resource: "statefulsets", Namespace: namespace},
	}}
	answer, err := c.Clients.AuthorizationV1().SubjectAccessReviews().Create(ctx, review, metav1.CreateOptions{})
	if err != nil {
		return false, fmt.Errorf("review the access of %s in %s: %w", user, namespace, err)
	}
	return answer.Status.Allowed, nil
}
