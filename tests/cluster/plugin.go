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
	binary, err := c.build(ctx, "kubectl-mcpserver", "./plugin", version)
	if err != nil {
		return 0, "", "", err
	}
	command := exec.CommandContext(ctx, c.kubectl, append([]string{"mcpserver"}, args...)...)
	command.Env = append(os.Environ(), "KUBECONFIG="+c.Kubeconfig, "KUBECACHEDIR="+filepath.Join(c.dir, "kubecache"),
		"PATH="+filepath.Dir(binary)+string(os.PathListSeparator)+os.Getenv("PATH"))
	command.Dir = c.root
	var out, errOut bytes.Buffer
	command.Stdin, command.Stdout, command.Stderr = strings.NewReader(input), &out, &errOut
	err = command.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		return 0, "", "", fmt.Errorf("kubectl mcpserver %s: %w", strings.Join(args, " "), err)
	}
	return command.ProcessState.ExitCode(), out.String(), errOut.String(), nil
}
