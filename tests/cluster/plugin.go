package cluster

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// Plugin builds a version of the kubectl plugin, and runs "kubectl mcpserver" with it as the administrator. It returns the exit code and the
// output.
func (c *Cluster) Plugin(ctx context.Context, version, input string, args ...string) (code int, stdout, stderr string, err error) {
	return c.runPlugin(ctx, version, input, append([]string{"mcpserver"}, args...))
}

// CompletePlugin returns what kubectl completes for the arguments of "kubectl mcpserver", with the completion of make build. The last argument is what the
// user has begun to type.
func (c *Cluster) CompletePlugin(ctx context.Context, args ...string) (string, error) {
	code, stdout, stderr, err := c.runPlugin(ctx, "development", "", append([]string{"__complete", "mcpserver"}, args...))
	if err == nil && code != 0 {
		err = fmt.Errorf("completing %q: exit code %d: %s", args, code, stderr)
	}
	return stdout, err
}

func (c *Cluster) runPlugin(ctx context.Context, version, input string, args []string) (code int, stdout, stderr string, err error) {
	binary, err := c.build(ctx, "kubectl-mcpserver", "./plugin", version)
	if err != nil {
		return 0, "", "", err
	}
	path := []string{filepath.Dir(binary), filepath.Join(c.root, "plugin"), os.Getenv("PATH")} // plugin has the completion, which runs kubectl
	if filepath.IsAbs(c.kubectl) {
		path = append([]string{filepath.Dir(c.kubectl)}, path...)
	}
	command := exec.CommandContext(ctx, c.kubectl, args...)
	command.Env = append(os.Environ(), "KUBECONFIG="+c.Kubeconfig, "KUBECACHEDIR="+filepath.Join(c.dir, "kubecache"),
		"PATH="+strings.Join(path, string(os.PathListSeparator)))
	command.Dir = c.root
	var out, errOut bytes.Buffer
	command.Stdin, command.Stdout, command.Stderr = strings.NewReader(input), &out, &errOut
	err = command.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		return 0, "", "", fmt.Errorf("kubectl %s: %w", strings.Join(args, " "), err)
	}
	return command.ProcessState.ExitCode(), out.String(), errOut.String(), nil
}
