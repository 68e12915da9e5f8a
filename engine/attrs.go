package engine

import (
	"encoding/csv"
	"maps"
	"net"
	"slices"
	"strconv"
	"strings"

	"github.com/containerd/platforms"
	"github.com/docker/go-units"
	"github.com/moby/buildkit/util/entitlements"
)

// setAttrs turns the request's options into frontend attributes, the string map
// in which BuildKit's frontends take their options. Every value is checked here,
// so that a mistake shows before a daemon is needed.
func (j *job) setAttrs() error {
	r, a := &j.req, j.attrs
	if r.Target != "" {
		a["target"] = r.Target
	}
	for k, v := range r.BuildArgs {
		a["build-arg:"+k] = v
	}
	if r.Syntax != "" {
		a["build-arg:BUILDKIT_SYNTAX"] = r.Syntax
	}
	for k, v := range r.Labels {
		a["label:"+k] = v
	}
	if r.NoCache && len(r.NoCacheFilter) > 0 {
		return inputErrorf("no-cache and no-cache-filter exclude each other: the first covers every stage")
	}
	if r.NoCache {
		a["no-cache"] = ""
	} else if len(r.NoCacheFilter) > 0 {
		a["no-cache"] = strings.Join(r.NoCacheFilter, ",")
	}
	if r.CgroupParent != "" {
		a["cgroup-parent"] = r.CgroupParent
	}
	if r.ShmSize < 0 {
		return inputErrorf("shm size %d is negative", r.ShmSize)
	}
	if r.ShmSize > 0 {
		a["shm-size"] = strconv.FormatInt(r.ShmSize, 10)
	}
	if r.Root != "" {
		if _, err := j.run.roots.given(r.Root); err != nil {
			return err
		}
	}
	for _, f := range []func() error{j.setPlatforms, j.setPull, j.checkDefaultRegistry, j.setNetwork, j.setHosts, j.setUlimits, j.setAttests, j.setEntitlements} {
		if err := f(); err != nil {
			return err
		}
	}
	return nil
}

func (j *job) setPlatforms() error {
	var list []string
	for _, p := range j.req.Platforms {
		for p := range strings.SplitSeq(p, ",") {
			parsed, err := platforms.Parse(strings.TrimSpace(p))
			if err != nil {
				return inputErrorf("platform %q: %w", p, err)
			}
			if s := platforms.FormatAll(platforms.Normalize(parsed)); !slices.Contains(list, s) {
				list = append(list, s)
			}
		}
	}
	if len(list) > 0 {
		j.attrs["platform"] = strings.Join(list, ",")
	}
	return nil
}

func (j *job) setPull() error {
	switch j.req.Pull {
	case PullDefault:
		if j.req.Offline {
			j.attrs["image-resolve-mode"] = "local"
		}
	case PullAlways, PullNewer:
		if j.req.Offline {
			return inputErrorf("offline and pull mode %s exclude each other: the one asks no registry, the other each one", j.req.Pull)
		}
		j.attrs["image-resolve-mode"] = "pull"
	case PullNever:
		j.attrs["image-resolve-mode"] = "local"
	default:
		return inputErrorf("pull mode %q is none of always, newer and never", j.req.Pull)
	}
	return nil
}

func (j *job) setNetwork() error {
	switch j.req.Network {
	case "", "default":
	case "none":
		j.attrs["force-network-mode"] = "none"
	case "host":
		j.attrs["force-network-mode"] = "host"
		j.entitle(string(entitlements.EntitlementNetworkHost))
	default:
		return inputErrorf("network mode %q is none of default, none and host", j.req.Network)
	}
	return nil
}

func (j *job) setHosts() error {
	var hosts []string
	for _, h := range j.req.AddHosts {
		// name=ip is unambiguous; name:ip is what older tools take, where the
		// first colon ends the name (the address may be IPv6).
		name, ip, ok := strings.Cut(h, "=")
		if !ok {
			name, ip, ok = strings.Cut(h, ":")
		}
		ip = strings.TrimSuffix(strings.TrimPrefix(ip, "["), "]")
		if !ok || name == "" {
			return inputErrorf("host %q is not of the form name=ip", h)
		}
		if ip == "host-gateway" {
			return inputErrorf("host %q: host-gateway is a feature of docker's own builder: give the address", h)
		}
		if net.ParseIP(ip) == nil {
			return inputErrorf("host %q: %q is not an ip address", h, ip)
		}
		hosts = append(hosts, name+"="+ip)
	}
	if len(hosts) > 0 {
		j.attrs["add-hosts"] = csvLine(hosts)
	}
	return nil
}

func (j *job) setUlimits() error {
	var limits []string
	for _, u := range j.req.Ulimits {
		parsed, err := units.ParseUlimit(u)
		if err != nil {
			return inputErrorf("ulimit %q: %w", u, err)
		}
		limits = append(limits, parsed.String())
	}
	if len(limits) > 0 {
		j.attrs["ulimit"] = csvLine(limits)
	}
	return nil
}

func (j *job) setAttests() error {
	for _, k := range slices.Sorted(maps.Keys(j.req.Attests)) {
		v := j.req.Attests[k]
		if k != "sbom" && k != "provenance" {
			return inputErrorf("attestation %q is neither sbom nor provenance", k)
		}
		fields, err := csv.NewReader(strings.NewReader(v)).Read()
		if err != nil && v != "" {
			return inputErrorf("attestation %s: %w", k, err)
		}
		var keep []string
		disabled := false
		for _, f := range fields {
			name, value, _ := strings.Cut(f, "=")
			if k == "provenance" && name == "mode" && !slices.Contains([]string{"min", "max", "full"}, value) {
				return inputErrorf("attestation provenance: mode %q is neither min nor max", value)
			}
			if name != "disabled" {
				keep = append(keep, f)
				continue
			}
			if disabled, err = strconv.ParseBool(value); err != nil {
				return inputErrorf("attestation %s: disabled=%s is not a boolean", k, value)
			}
		}
		if !disabled {
			j.attrs["attest:"+k] = csvLine(keep)
		}
	}
	return nil
}

func (j *job) setEntitlements() error {
	for _, a := range j.req.Allow {
		for a := range strings.SplitSeq(a, ",") {
			if dir, ok := strings.CutPrefix(a, "fs.read="); ok {
				if err := j.allowRead(dir); err != nil {
					return err
				}
				continue
			}
			if _, _, err := entitlements.Parse(a); err != nil {
				return inputErrorf("entitlement %q is none of network.host, security.insecure, device and fs.read=DIR", a)
			}
			j.entitle(a)
		}
	}
	return nil
}

func (j *job) entitle(name string) {
	if !slices.Contains(j.entitlements, name) {
		j.entitlements = append(j.entitlements, name)
	}
}

// csvLine joins fields as BuildKit splits them, quoting where needed.
func csvLine(fields []string) string {
	if len(fields) == 0 {
		return ""
	}
	var b strings.Builder
	w := csv.NewWriter(&b)
	_ = w.Write(fields)
	w.Flush()
	return strings.TrimSuffix(b.String(), "\n")
}
