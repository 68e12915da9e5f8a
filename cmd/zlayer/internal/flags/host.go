package flags

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
)

// ParseAddHost checks NAME:IP or NAME=IP and gives it back as NAME=IP. An IPv6
// address may stand in brackets.
func ParseAddHost(s string) (string, error) {
	name, ip, ok := strings.Cut(s, "=")
	if !ok {
		name, ip, ok = strings.Cut(s, ":")
	}
	switch {
	case !ok || name == "":
		return "", errors.New("write NAME:IP")
	case strings.ContainsAny(name, " \t\r\n#"):
		return "", fmt.Errorf("%q is not a host name", name)
	case ip == "host-gateway":
		return "", errors.New("host-gateway is known to the docker daemon only: write the address")
	}
	if strings.HasPrefix(ip, "[") && strings.HasSuffix(ip, "]") {
		ip = ip[1 : len(ip)-1]
	}
	addr, err := netip.ParseAddr(ip)
	if err != nil {
		return "", fmt.Errorf("%q is not an IP address", ip)
	}
	return name + "=" + addr.String(), nil
}
