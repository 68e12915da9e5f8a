package flags

import (
	"errors"
	"fmt"
	"strings"
)

// ParseBuildArg reads KEY=VALUE, or KEY alone for the value that lookup finds;
// ok is false when lookup finds none, and the argument is then not passed.
func ParseBuildArg(s string, lookup func(string) (string, bool)) (key, value string, ok bool, err error) {
	key, value, ok = strings.Cut(s, "=")
	if key == "" {
		return "", "", false, errors.New("no name: write NAME=VALUE, or NAME to take it from the environment")
	}
	if !ok {
		value, ok = lookup(key)
	}
	return key, value, ok, nil
}

// ParseLabel reads KEY=VALUE; KEY alone is an empty value.
func ParseLabel(s string) (key, value string, err error) {
	key, value, _ = strings.Cut(s, "=")
	if key == "" {
		return "", "", errors.New("no name: write KEY=VALUE")
	}
	return key, value, nil
}

// ParseBuildContext reads NAME=PATH or NAME=URL.
func ParseBuildContext(s string) (name, value string, err error) {
	name, value, ok := strings.Cut(s, "=")
	switch {
	case !ok:
		return "", "", errors.New("write NAME=PATH or NAME=URL")
	case name == "":
		return "", "", errors.New("the name is empty: write NAME=PATH")
	case value == "":
		return "", "", fmt.Errorf("no path: write %s=PATH", name)
	}
	return name, value, nil
}

// ParseHostValue reads HOST=VALUE, where HOST is a registry with an optional
// port.
func ParseHostValue(s string) (host, value string, err error) {
	host, value, ok := strings.Cut(s, "=")
	if !ok || value == "" {
		return "", "", errors.New("write HOST=VALUE")
	}
	return host, value, CheckHost(host)
}

// CheckHost refuses what is not a registry host: a URL, a path.
func CheckHost(host string) error {
	switch {
	case host == "":
		return errors.New("the host is empty")
	case strings.Contains(host, "://"):
		return fmt.Errorf("%q: leave out the scheme", host)
	case strings.ContainsAny(host, "/ \t"):
		return fmt.Errorf("%q: write a host, without a path", host)
	}
	return nil
}
