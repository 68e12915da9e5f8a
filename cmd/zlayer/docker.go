package main

import (
	"fmt"

	"github.com/docker/cli/cli/config"
)

// dockerProxies are the proxies that docker's own configuration file names for
// builds: for the daemon at addr, else the default ones.
func dockerProxies(addr string) (map[string]string, error) {
	file, err := config.Load(config.Dir())
	if err != nil {
		return nil, fmt.Errorf("reading docker's configuration: %w", err)
	}
	out := map[string]string{}
	for k, v := range file.ParseProxyConfig(addr, nil) {
		if v != nil {
			out[k] = *v
		}
	}
	return out, nil
}
