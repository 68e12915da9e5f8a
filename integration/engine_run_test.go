package integration

import (
	"strconv"
	"strings"
	"testing"

	"github.com/moby/buildkit/identity"

	"github.com/zlayer-dev/zlayer/engine"
)

func TestEngineEntitlements(t *testing.T) {
	t.Parallel()
	e := openEngine(t)
	output := func(step string, allow ...string) string {
		t.Helper()
		var rec recorder
		dir := files{"Dockerfile": "FROM busybox\nENV TEST=" + identity.NewID() + "\n" + step + "\n"}.dir(t)
		build(t, e, engine.Request{Context: dir, Allow: allow, Outputs: cacheOnly, Events: rec.sink})
		return rec.output()
	}
	const insecure, host = "security.insecure", "network.host"
	for step, need := range map[string]string{"RUN --security=insecure true": insecure, "RUN --network=host true": host} {
		dir := files{"Dockerfile": "FROM busybox AS a\nRUN true\n" + step + "\nFROM busybox\nCOPY --from=a /bin/sh /x\n"}.dir(t)
		for _, allow := range [][]string{nil, {"device"}} {
			err := buildFails(t, e, engine.Request{Context: dir, Allow: allow})
			mustSay(t, err, dir+"/Dockerfile:3: the step needs the entitlement "+need+": grant it with --allow "+need)
		}
		output(step, need)
		output(step, insecure+","+host)
	}
	// CAP_SYS_ADMIN is one that a step does not have otherwise.
	const sysAdmin = 1 << 21
	caps := func(out string) uint64 {
		n, err := strconv.ParseUint(strings.TrimSpace(strings.TrimPrefix(out, "CapEff:")), 16, 64)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	if got := caps(output("RUN --security=insecure grep CapEff /proc/self/status", insecure)); got&sysAdmin == 0 {
		t.Errorf("an insecure step has the capabilities %x", got)
	}
	if got := caps(output("RUN grep CapEff /proc/self/status", insecure)); got&sysAdmin != 0 {
		t.Errorf("a step that did not ask has the capabilities %x", got)
	}
	dir := files{"Dockerfile": "FROM busybox\n"}.dir(t)
	mustBeInput(t, buildFails(t, e, engine.Request{Context: dir, Allow: []string{"everything"}}), `entitlement "everything"`)
}

// TestEngineRunOptions has steps report what the request's options made of them.
func TestEngineRunOptions(t *testing.T) {
	t.Parallel()
	e := openEngine(t)
	for _, c := range []struct {
		step  string
		req   engine.Request
		shows string
		hides string
	}{
		{step: "RUN --network=none ls /sys/class/net", shows: "lo", hides: "eth"},
		{step: "RUN ls /sys/class/net #1", req: engine.Request{Network: "none"}, shows: "lo", hides: "eth"},
		{step: "RUN ls /sys/class/net #2", req: engine.Request{Network: "host"}, shows: "lo"},
		{step: "RUN cat /etc/hosts", req: engine.Request{AddHosts: []string{"one=192.0.2.1", "two:192.0.2.2", "six=[2001:db8::1]"}}, shows: "2001:db8::1\tsix"},
		{step: "RUN df -k /dev/shm", req: engine.Request{ShmSize: 3 << 20}, shows: "3072"},
		{step: "RUN ulimit -n; ulimit -Hn", req: engine.Request{Ulimits: []string{"nofile=123:456"}}, shows: "123\n456"},
		{step: "ARG A\nRUN echo got $A", req: engine.Request{BuildArgs: map[string]string{"A": "a=b c"}}, shows: "got a=b c"},
		{step: "RUN echo proxy $http_proxy", req: engine.Request{BuildArgs: map[string]string{"http_proxy": "http://proxy.example:1"}}, shows: "proxy http://proxy.example:1"},
	} {
		dir := files{"Dockerfile": "FROM busybox\nENV TEST=" + identity.NewID() + "\n" + c.step + "\n"}.dir(t)
		var rec recorder
		req := c.req
		req.Context, req.Outputs, req.Events = dir, cacheOnly, rec.sink
		build(t, e, req)
		out := rec.output()
		if !strings.Contains(out, c.shows) || c.hides != "" && strings.Contains(out, c.hides) {
			t.Errorf("%s: got %q, want %q and not %q", c.step, out, c.shows, c.hides)
		}
	}
}
