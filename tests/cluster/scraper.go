package cluster

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"mcpserver-operator/crd/v1alpha1"
)

// count returns how many MCPServers there are.
func (c *Cluster) count(ctx context.Context) (int, error) {
	var servers v1alpha1.MCPServerList
	if err := c.Client.List(ctx, &servers); err != nil {
		return 0, fmt.Errorf("listing the MCPServers: %w", err)
	}
	return len(servers.Items), nil
}

// scraperToken returns a token of a ServiceAccount that may read the operator's metrics and nothing else.
func (c *Cluster) scraperToken(ctx context.Context) (string, error) {
	c.scraper.Lock()
	defer c.scraper.Unlock()
	if c.scraper.token != "" {
		return c.scraper.token, nil
	}
	account := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: OperatorNamespace, Name: metricsAccount}}
	binding := &rbacv1.ClusterRoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: metricsAccount},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "mcpserver-operator-metrics-reader"},
		Subjects:   []rbacv1.Subject{{Kind: rbacv1.ServiceAccountKind, Namespace: OperatorNamespace, Name: metricsAccount}},
	}
	if err := c.Client.Create(ctx, account); err != nil && !apierrors.IsAlreadyExists(err) {
		return "", fmt.Errorf("creating the scraper's account: %w", err)
	}
	if err := c.Client.Create(ctx, binding); err != nil && !apierrors.IsAlreadyExists(err) {
		return "", fmt.Errorf("binding the scraper's role: %w", err)
	}
	token, err := c.token(ctx, metricsAccount)
	c.scraper.token = token
	return token, err
}
