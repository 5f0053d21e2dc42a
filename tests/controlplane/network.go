package controlplane

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
)

// The addresses of the real nodes, which are numbered from 1. They exist only in the nodes' network namespaces. Both IP
// families are configured, so that tests can use Services of either family.
const (
	serviceRange = "10.96.0.0/16,fd00:10:96::/112"
	podRange     = "10.244.0.0/16,fd00:10:244::/56"
)

func nodeName(number int) string     { return "node-" + strconv.Itoa(number) }
func nodeAddress(number int) string  { return fmt.Sprintf("10.0.0.%d", number) }
func nodeAddress6(number int) string { return fmt.Sprintf("fd00:10::%d", number) }
func podSubnet(number int) string    { return fmt.Sprintf("10.244.%d.0/24", number) }
func podSubnet6(number int) string   { return fmt.Sprintf("fd00:10:244:%d::/64", number) }

// connect configures each node's addresses, its link to the other node, and its routes to pods.
//
// The link is a pair of veth devices, because the kernels of small machines often lack the "dummy" device. With a single
// node, both ends of the pair stay in that node. The device is required: the kubelet refuses a loopback address, and
// kube-apiserver and kube-proxy require a default route.
func connect(nodes []*realNode) error {
	commands := []string{"link add eth0 type veth peer name eth0p"}
	if len(nodes) > 1 {
		// The process id is valid here because ip runs in the machine's process namespace.
		commands = append(commands, fmt.Sprintf("link set eth0p netns %d name eth0", nodes[1].namespace.PID()))
	} else {
		commands = append(commands, "link set eth0p up")
	}
	for _, command := range commands {
		if err := nodes[0].ip(command); err != nil {
			return err
		}
	}
	for _, node := range nodes {
		for _, command := range []string{
			"link set lo up",
			"address add " + nodeAddress(node.number) + "/24 dev eth0",
			"-6 address add " + nodeAddress6(node.number) + "/64 dev eth0 nodad",
			"link set eth0 up",
			"route add default dev eth0",
			"-6 route add default dev eth0",
		} {
			if err := node.ip(command); err != nil {
				return err
			}
		}
		if err := node.forwardPackets(); err != nil {
			return err
		}
	}
	for _, from := range nodes {
		for _, to := range nodes {
			if from == to {
				continue
			}
			err := errors.Join(
				from.ip("route add "+podSubnet(to.number)+" via "+nodeAddress(to.number)),
				from.ip("-6 route add "+podSubnet6(to.number)+" via "+nodeAddress6(to.number)))
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// ip runs iproute2 in the network namespace of a node.
func (n *realNode) ip(arguments string) error {
	var out bytes.Buffer
	command := exec.Command("ip", strings.Fields(arguments)...)
	command.Stdout, command.Stderr = &out, &out
	if err := n.namespace.StartInNetwork(command); err != nil {
		return fmt.Errorf("ip %s: %w", arguments, err)
	}
	if err := command.Wait(); err != nil {
		return fmt.Errorf("ip %s: %w: %s", arguments, err, out.Bytes())
	}
	return nil
}

// forwardPackets enables routing between the node's pods and other addresses. It also makes bridged packets visible to kube-proxy.
func (n *realNode) forwardPackets() error {
	return n.namespace.InNetwork(func() error {
		for _, setting := range []string{
			"net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding",
			"net/bridge/bridge-nf-call-iptables", "net/bridge/bridge-nf-call-ip6tables",
		} {
			if err := os.WriteFile("/proc/sys/"+setting, []byte("1"), 0); err != nil {
				return fmt.Errorf("configuring the network of %s: %w", n.name, err)
			}
		}
		return nil
	})
}
