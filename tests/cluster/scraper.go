package cluster

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
)

// ScraperToken returns a token of a ServiceAccount that is only allowed to read the operator's metrics.
func (c *Cluster) ScraperToken(ctx context.Context) (string, error) {
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
	token, err := c.token(ctx, OperatorNamespace, metricsAccount)
	c.scraper.token = token
	return token, err
}

// MetricsAddress returns the address of the operator's metrics. It is another one after each start.
func (o *Operator) MetricsAddress() string { return o.metricsAddress }

// MetricsURL returns the URL of the operator's metrics.
func (o *Operator) MetricsURL() string { return "https://" + o.metricsAddress + "/metrics" }

// Passes returns the number of passes that the operator has finished since it started.
func (o *Operator) Passes(ctx context.Context) (int, error) {
	families, err := o.Metrics(ctx)
	if err != nil {
		return 0, err
	}
	var passes float64
	for _, metric := range families["controller_runtime_reconcile_total"].GetMetric() {
		passes += metric.GetCounter().GetValue()
	}
	return int(passes), nil
}

// WaitForPassOverAll waits until the operator has finished, since its last start, at least as many passes as there are MCPServers.
// It recounts the MCPServers at each attempt, so that deleted ones do not count.
func (o *Operator) WaitForPassOverAll(ctx context.Context) error {
	var last, servers int
	var lastErr error
	err := wait.PollUntilContextTimeout(ctx, pollInterval, operatorTimeout, true, func(ctx context.Context) (bool, error) {
		select {
		case <-o.exited:
			return false, errors.New("the operator ended")
		default:
		}
		var counting, scraping error
		servers, counting = o.cluster.count(ctx)
		last, scraping = o.Passes(ctx)
		lastErr = errors.Join(counting, scraping)
		return lastErr == nil && last >= servers, nil
	})
	if err != nil {
		return fmt.Errorf("waiting for at least %d passes, one per MCPServer, but the operator has finished %d: %w; the operator's log is %s",
			servers, last, errors.Join(err, lastErr), o.log)
	}
	return nil
}

// metricsAccount is the ServiceAccount of the scraper.
const metricsAccount = "metrics-scraper"

// Metrics scrapes the operator with a ServiceAccount that is allowed to.
func (o *Operator) Metrics(ctx context.Context) (map[string]*dto.MetricFamily, error) {
	token, err := o.cluster.ScraperToken(ctx)
	if err != nil {
		return nil, err
	}
	status, body, err := o.Scrape(ctx, token)
	if err != nil {
		return nil, err
	}
	defer body.Close()
	if status != http.StatusOK {
		return nil, fmt.Errorf("scraping the operator: status %d", status)
	}
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(body)
	if err != nil {
		return nil, fmt.Errorf("parsing the metrics: %w", err)
	}
	return families, nil
}

// Scrape requests the metrics with a bearer token. If token is empty, the request has no credentials.
func (o *Operator) Scrape(ctx context.Context, token string) (status int, body io.ReadCloser, err error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, o.MetricsURL(), nil)
	if err != nil {
		return 0, nil, fmt.Errorf("scraping the operator: %w", err)
	}
	if token != "" {
		request.Header.Set("Authorization", "Bearer "+token)
	}
	// The operator creates a self-signed certificate when it starts, so the client cannot verify it.
	response, err := (&http.Client{Transport: &http.Transport{
		TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, DisableKeepAlives: true,
	}}).Do(request)
	if err != nil {
		return 0, nil, fmt.Errorf("scraping the operator: %w", err)
	}
	return response.StatusCode, response.Body, nil
}
