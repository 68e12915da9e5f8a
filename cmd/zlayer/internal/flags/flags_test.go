package flags

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/zlayer-dev/zlayer/engine"
)

// env makes a look-up of environment variables.
func env(kv ...string) func(string) (string, bool) {
	m := map[string]string{}
	for i := 0; i < len(kv); i += 2 {
		m[kv[i]] = kv[i+1]
	}
	return func(name string) (string, bool) {
		v, ok := m[name]
		return v, ok
	}
}

// check compares a result or, where want is a string beginning with "error: ", the
// message.
func check(t *testing.T, in string, got any, err error, want any) {
	t.Helper()
	if err != nil {
		got = "error: " + err.Error()
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("%q (-want +got):\n%s", in, d)
	}
}

func TestParseOutput(t *testing.T) {
	type attrs = map[string]string
	out := func(typ engine.OutputType, dest string, a attrs) Output {
		return Output{Output: engine.Output{Type: typ, Dest: dest, Attrs: a}}
	}
	stdout := func(o Output) Output { o.Stdout = true; return o }
	load := func(o Output) Output { o.Load = true; return o }
	for _, c := range []struct {
		in   string
		want any
	}{
		{"out/Dir", out("local", "out/Dir", nil)},
		{`"a,b"`, out("local", "a,b", nil)},
		{"-", stdout(out("tar", "", nil))},
		{"type=store", out("store", "", attrs{})},
		{"type=store,compression=zstd", out("store", "", attrs{"compression": "zstd"})},
		{"type=image,name=a/b,push=true", out("image", "", attrs{"name": "a/b", "push": "true"})},
		{"type=registry", out("image", "", attrs{"push": "true"})},
		{"type=registry,push=true,name=x", out("image", "", attrs{"push": "true", "name": "x"})},
		{`type=image,"name=a,b"`, out("image", "", attrs{"name": "a,b"})},
		{"type=oci", stdout(out("oci", "", attrs{}))},
		{"type=oci,dest=-", stdout(out("oci", "", attrs{}))},
		{"TYPE=oci,Dest=X.tar", out("oci", "X.tar", attrs{})},
		{"type=oci,dest=d,tar=false", out("oci", "d", attrs{"tar": "false"})},
		{"type=docker", load(out("docker", "", attrs{}))},
		{"type=docker,dest=-", stdout(out("docker", "", attrs{}))},
		{"type=docker,dest=x", out("docker", "x", attrs{})},
		{"type=tar", stdout(out("tar", "", attrs{}))},
		{"type=tar,dest=x", out("tar", "x", attrs{})},
		{"type=local,dest=x", out("local", "x", attrs{})},
		{"type=cacheonly", out("cacheonly", "", attrs{})},
		{"type=oci,dest=x,annotation.org.Key=V", out("oci", "x", attrs{"annotation.org.Key": "V"})},

		{"", "error: the value is empty"},
		{"type=foo", `error: unknown type "foo": use store, image, registry, oci, docker, tar, local or cacheonly`},
		{"type=loacl,dest=x", `error: unknown type "loacl", did you mean "local"?`},
		{"dest=x", "error: type= is missing: use store, image, registry, oci, docker, tar, local or cacheonly"},
		{"type=oci,tar", `error: field "tar" has no value: write tar=...`},
		{"type=oci,type=tar", "error: type is given twice"},
		{"type=oci,=x", `error: field "=x" has no key: write key=value`},
		{"type=oci,dest=", "error: dest is empty"},
		{"type=oci,tar=false", "error: tar=false needs a directory: add dest=DIR"},
		{"type=oci,tar=maybe", "error: tar=maybe: use true or false"},
		{"type=tar,dest=x,tar=false", "error: type=tar has no field tar: use type=local for a directory"},
		{"type=local", "error: type=local needs a directory: add dest=DIR"},
		{"type=local,dest=-", "error: type=local needs a directory: add dest=DIR"},
		{"type=store,dest=x", "error: type=store has no dest: use type=oci or type=docker for a file"},
		{"type=store,push=true", "error: type=store does not push: use --push, or type=registry"},
		{"type=registry,push=false", "error: type=registry means push=true: use type=image"},
		{"type=docker,name=x", "error: type=docker without dest loads into docker and takes no name: add dest=FILE or use --tag"},
		{"type=cacheonly,dest=x", "error: type=cacheonly writes nothing and takes no other fields"},
		{"type=oci,dest=x\ntype=tar", "error: the value must be one line"},
		{`type=oci,"dest=x`, `error: not comma-separated key=value fields: extraneous or missing " in quoted-field`},
	} {
		got, err := ParseOutput(c.in)
		check(t, c.in, got, err, c.want)
	}
}

func TestParseSecret(t *testing.T) {
	for _, c := range []struct {
		in   string
		want any
	}{
		{"id=a,src=/x", engine.Secret{ID: "a", File: "/x"}},
		{"id=a,source=/x", engine.Secret{ID: "a", File: "/x"}},
		{"id=a,env=TOKEN", engine.Secret{ID: "a", Env: "TOKEN"}},
		{"id=a", engine.Secret{ID: "a", File: "a"}},
		{"id=TOKEN", engine.Secret{ID: "TOKEN", Env: "TOKEN"}},
		{"type=env,id=a,src=V", engine.Secret{ID: "a", Env: "V"}},
		{"type=env,id=a", engine.Secret{ID: "a", Env: "a"}},
		{"type=file,id=a,src=V", engine.Secret{ID: "a", File: "V"}},
		{"type=file,id=TOKEN,src=TOKEN", engine.Secret{ID: "TOKEN", File: "TOKEN"}},
		{"a", `error: field "a" has no value: write id=ID,src=FILE or id=ID,env=NAME`},
		{"src=x", "error: id is missing: write id=ID,src=FILE or id=ID,env=NAME"},
		{"id=a,scr=x", `error: unknown field "scr", did you mean "src"?`},
		{"id=a,src=x,source=y", "error: the source is given twice"},
		{"id=a,src=x,env=y", "error: src and env contradict each other: give one of them"},
		{"id=a,type=file,env=y", "error: type=file and env contradict each other: use src=FILE"},
		{"id=a,type=net", `error: unknown type "net": use file or env`},
	} {
		got, err := ParseSecret(c.in, env("TOKEN", "x"))
		check(t, c.in, got, err, c.want)
	}
}

func TestParseSSH(t *testing.T) {
	for _, c := range []struct {
		in   string
		env  func(string) (string, bool)
		want any
	}{
		{"default", env("SSH_AUTH_SOCK", "/s"), engine.SSHAgent{ID: "default"}},
		{"default", env(), "error: SSH_AUTH_SOCK is not set: start ssh-agent or write default=PATH of a key"},
		{"default", env("SSH_AUTH_SOCK", ""), "error: SSH_AUTH_SOCK is not set: start ssh-agent or write default=PATH of a key"},
		{"git=/a,/b", env(), engine.SSHAgent{ID: "git", Paths: []string{"/a", "/b"}}},
		{"=x", env(), "error: the id is missing: write default or ID=PATH"},
		{"git=/a,", env(), "error: a path is empty: write git=PATH[,PATH]"},
	} {
		got, err := ParseSSH(c.in, c.env)
		check(t, c.in, got, err, c.want)
	}
}

func TestParseCache(t *testing.T) {
	type attrs = map[string]string
	gha := env("ACTIONS_RUNTIME_TOKEN", "t", "ACTIONS_CACHE_URL", "u", "ACTIONS_RESULTS_URL", "v")
	aws := env("AWS_ACCESS_KEY_ID", "a", "AWS_SECRET_ACCESS_KEY", "s", "AWS_SESSION_TOKEN", "o", "AWS_REGION", "r")
	for _, c := range []struct {
		in   string
		to   bool
		env  func(string) (string, bool)
		want any
	}{
		{"user/app:cache", false, env(), engine.CacheEntry{Type: "registry", Attrs: attrs{"ref": "user/app:cache"}}},
		{"user/app:cache", true, env(), engine.CacheEntry{Type: "registry", Attrs: attrs{"ref": "user/app:cache"}}},
		{"type=local,src=d", false, env(), engine.CacheEntry{Type: "local", Attrs: attrs{"src": "d"}}},
		{"type=local,dest=d,mode=max", true, env(), engine.CacheEntry{Type: "local", Attrs: attrs{"dest": "d", "mode": "max"}}},
		{"type=inline", true, env(), engine.CacheEntry{Type: "inline", Attrs: attrs{}}},
		{"type=gha,scope=x", true, gha, engine.CacheEntry{Type: "gha", Attrs: attrs{"scope": "x", "token": "t", "url": "u", "url_v2": "v"}}},
		{"type=gha,token=mine", false, gha, engine.CacheEntry{Type: "gha", Attrs: attrs{"token": "mine", "url": "u", "url_v2": "v"}}},
		{"type=s3,bucket=b", false, aws, engine.CacheEntry{Type: "s3", Attrs: attrs{"bucket": "b", "region": "r", "access_key_id": "a", "secret_access_key": "s", "session_token": "o"}}},
		{"type=s3,access_key_id=x,secret_access_key=y", false, aws, engine.CacheEntry{Type: "s3", Attrs: attrs{"region": "r", "access_key_id": "x", "secret_access_key": "y"}}},

		{"", false, env(), "error: the value is empty"},
		{"Bad Ref", false, env(), `error: ref "Bad Ref" is not an image reference: invalid reference format: repository name (library/Bad Ref) must be lowercase`},
		{"ref=x", false, env(), "error: type= is missing: use registry, local, gha, s3 or azblob"},
		{"type=inline", false, env(), `error: unknown type "inline": use registry, local, gha, s3 or azblob`},
		{"type=registry", true, env(), "error: type=registry needs ref=IMAGE"},
		{"type=local,dest=d", false, env(), "error: type=local needs src=DIR"},
		{"type=local,src=d", true, env(), "error: type=local needs dest=DIR"},
		{"type=gha", false, env(), "error: type=gha needs token=TOKEN or ACTIONS_RUNTIME_TOKEN, which GitHub gives to actions only"},
		{"type=local,dest=d,mode=med", true, env(), `error: unknown mode "med", did you mean "min"?`},
	} {
		parse := ParseCacheFrom
		if c.to {
			parse = ParseCacheTo
		}
		got, err := parse(c.in, c.env)
		check(t, c.in, got, err, c.want)
	}
}

func TestParseAttests(t *testing.T) {
	type m = map[string]string
	for _, c := range []struct {
		list             []string
		sbom, provenance string
		want             any
	}{
		{nil, "", "", m{}},
		{nil, "true", "false", m{"sbom": "", "provenance": "disabled=true"}},
		{nil, "generator=img", "mode=max", m{"sbom": "generator=img", "provenance": "mode=max"}},
		{[]string{"type=sbom,generator=img", "provenance,mode=max"}, "", "", m{"sbom": "generator=img", "provenance": "mode=max"}},
		{[]string{"type=provenance,disabled=true"}, "", "", m{"provenance": "disabled=true"}},
		{[]string{"type=provenance,disabled=false"}, "", "", m{"provenance": ""}},
		{[]string{`type=sbom,"generator=a,b"`}, "", "", m{"sbom": `"generator=a,b"`}},
		{[]string{"type=sbom"}, "true", "", "error: sbom is asked for twice: give --sbom or --attest type=sbom once"},
		{[]string{"mode=max"}, "", "", `error: --attest "mode=max": type= is missing: use sbom or provenance`},
		{[]string{"type=sbmo"}, "", "", `error: --attest "type=sbmo": unknown type "sbmo", did you mean "sbom"?`},
		{nil, "", "max", `error: --provenance "max": field "max" has no value: write true, false or KEY=VALUE`},
		{[]string{"type=sbom,disabled=x"}, "", "", `error: --attest "type=sbom,disabled=x": disabled=x: use true or false`},
	} {
		got, err := ParseAttests(c.list, c.sbom, c.provenance)
		check(t, fmt.Sprint(c.list, c.sbom, c.provenance), got, err, c.want)
	}
}

func TestParseAnnotation(t *testing.T) {
	for in, want := range map[string]any{
		"a=b":                              [2]string{"a", "b"},
		"org.x=http://y:1/=z":              [2]string{"org.x", "http://y:1/=z"},
		"index:a=b":                        [2]string{"index:a", "b"},
		"index,manifest[linux/amd64]:a=":   [2]string{"index,manifest[linux/amd64]:a", ""},
		"manifest-descriptor[linux/arm]:a": "error: no value: write KEY=VALUE",
		"=b":                               `error: the key "" must be a word`,
		"a b=c":                            `error: the key "a b" must be a word`,
		"indx:a=b":                         `error: unknown type "indx", did you mean "index"?`,
		"index[linux/amd64]:a=b":           `error: "index[linux/amd64]": an index has no platform`,
		"manifest[linux/amd64:a=b":         `error: "manifest[linux/amd64" lacks the closing bracket`,
		"manifest[???]:a=b":                `error: "???" is not a platform: write OS/ARCH[/VARIANT]`,
	} {
		k, v, err := ParseAnnotation(in)
		check(t, in, [2]string{k, v}, err, want)
	}
}

func TestParseWords(t *testing.T) {
	for _, c := range []struct {
		name  string
		parse func(string) (any, error)
		in    string
		want  any
	}{
		{"pull", wrap(ParsePull), "always", engine.PullAlways},
		{"pull", wrap(ParsePull), "newer", engine.PullNewer},
		{"pull", wrap(ParsePull), "never", engine.PullNever},
		{"pull", wrap(ParsePull), "true", engine.PullAlways},
		{"pull", wrap(ParsePull), "false", engine.PullDefault},
		{"pull", wrap(ParsePull), "allways", `error: unknown mode "allways", did you mean "always"?`},
		{"network", wrap(ParseNetwork), "host", "host"},
		{"network", wrap(ParseNetwork), "bridge", `error: unknown network "bridge": use default, none or host`},
		{"allow", wrap(ParseAllow), "network.host", "network.host"},
		{"allow", wrap(ParseAllow), "device=vendor/gpu", "device=vendor/gpu"},
		{"allow", wrap(ParseAllow), "device", "device"},
		{"allow", wrap(ParseAllow), "fs.read=../shared", "fs.read=../shared"},
		{"allow", wrap(ParseAllow), "fs.read", "error: the directory is missing: write fs.read=DIR, or fs.read=* for all"},
		{"allow", wrap(ParseAllow), "device=", "error: the device is empty: write device=NAME"},
		{"allow", wrap(ParseAllow), "network.host=1", "error: network.host takes no value"},
		{"allow", wrap(ParseAllow), "network.hots", `error: unknown entitlement "network.hots", did you mean "network.host"?`},
		{"size", wrap(ParseSize), "64m", int64(64 << 20)},
		{"size", wrap(ParseSize), "1.5G", int64(3 << 29)},
		{"size", wrap(ParseSize), "10", int64(10)},
		{"size", wrap(ParseSize), "x", "error: not a size: write a number with b, k, m or g, such as 64m"},
		{"ulimit", wrap(ParseUlimit), "nofile=1024", "nofile=1024:1024"},
		{"ulimit", wrap(ParseUlimit), "nofile=1:2", "nofile=1:2"},
		{"ulimit", wrap(ParseUlimit), "nofile=2:1", "error: ulimit soft limit must be less than or equal to hard limit: 2 > 1: write NAME=SOFT[:HARD], such as nofile=1024:2048"},
		{"host", wrap(ParseAddHost), "a:1.2.3.4", "a=1.2.3.4"},
		{"host", wrap(ParseAddHost), "a=::1", "a=::1"},
		{"host", wrap(ParseAddHost), "a:[::1]", "a=::1"},
		{"host", wrap(ParseAddHost), "a", "error: write NAME:IP"},
		{"host", wrap(ParseAddHost), ":1.2.3.4", "error: write NAME:IP"},
		{"host", wrap(ParseAddHost), "a b:1.2.3.4", `error: "a b" is not a host name`},
		{"host", wrap(ParseAddHost), "a:b", `error: "b" is not an IP address`},
		{"host", wrap(ParseAddHost), "a:host-gateway", "error: host-gateway is known to the docker daemon only: write the address"},
		{"tag", tagged, "app:1", "app:1"},
		{"tag", tagged, "Host/App", "error: invalid reference format: repository name (App) must be lowercase: write [HOST/]NAME[:TAG], in lower case"},
		{"tag", tagged, "a@sha256:74b501d9c91ae8e5c9a4df145e54b0c78f5789dc316710e6c86d543dc870d16d", "error: the name of a new image cannot hold a digest: leave out @sha256:..."},
		{"call", wrap(ParseCall), "check", Call{Name: engine.CallCheck}},
		{"call", wrap(ParseCall), "build", Call{}},
		{"call", wrap(ParseCall), "outline,format=json", Call{Name: engine.CallOutline, JSON: true}},
		{"call", wrap(ParseCall), "targets,format=text", Call{Name: engine.CallTargets}},
		{"call", wrap(ParseCall), "chek", `error: unknown call "chek", did you mean "check"?`},
		{"call", wrap(ParseCall), "check,format=xml", `error: unknown format "xml": use json or text`},
		{"call", wrap(ParseCall), "check,fmt=json", `error: unknown field "fmt": use format`},
		{"call", wrap(ParseCall), "build,format=json", "error: build has no format"},
		{"label", pair(ParseLabel), "a=b=c", [2]string{"a", "b=c"}},
		{"label", pair(ParseLabel), "a", [2]string{"a", ""}},
		{"label", pair(ParseLabel), "=x", "error: no name: write KEY=VALUE"},
		{"context", pair(ParseBuildContext), "a=../b", [2]string{"a", "../b"}},
		{"context", pair(ParseBuildContext), "a", "error: write NAME=PATH or NAME=URL"},
		{"context", pair(ParseBuildContext), "=b", "error: the name is empty: write NAME=PATH"},
		{"context", pair(ParseBuildContext), "a=", "error: no path: write a=PATH"},
		{"host value", pair(ParseHostValue), "docker.io=127.0.0.1:5000", [2]string{"docker.io", "127.0.0.1:5000"}},
		{"host value", pair(ParseHostValue), "docker.io", "error: write HOST=VALUE"},
		{"host value", pair(ParseHostValue), "https://docker.io=x", `error: "https://docker.io": leave out the scheme`},
		{"host value", pair(ParseHostValue), "docker.io/library=x", `error: "docker.io/library": write a host, without a path`},
	} {
		got, err := c.parse(c.in)
		check(t, c.name+" "+c.in, got, err, c.want)
	}
}

func wrap[T any](f func(string) (T, error)) func(string) (any, error) {
	return func(s string) (any, error) { return f(s) }
}

func pair(f func(string) (string, string, error)) func(string) (any, error) {
	return func(s string) (any, error) {
		k, v, err := f(s)
		return [2]string{k, v}, err
	}
}

func tagged(s string) (any, error) { return s, CheckTag(s) }

func TestParsePlatforms(t *testing.T) {
	got, err := ParsePlatforms([]string{"linux/amd64,linux/arm64", "linux/arm/v7", "amd64", "linux/arm64/v8"})
	check(t, "list", got, err, []string{"linux/amd64", "linux/arm64", "linux/arm/v7"})
	got, err = ParsePlatforms([]string{"linux/"})
	check(t, "linux/", got, err, `error: "linux/" is not a platform: write OS/ARCH[/VARIANT], such as linux/arm64`)
	got, err = ParsePlatforms(nil)
	check(t, "none", got, err, []string(nil))
}

func TestParseBuildArg(t *testing.T) {
	for in, want := range map[string]any{
		"A=b":  [3]any{"A", "b", true},
		"A=":   [3]any{"A", "", true},
		"SET":  [3]any{"SET", "v", true},
		"NOPE": [3]any{"NOPE", "", false},
		"=b":   "error: no name: write NAME=VALUE, or NAME to take it from the environment",
	} {
		k, v, ok, err := ParseBuildArg(in, env("SET", "v"))
		check(t, in, [3]any{k, v, ok}, err, want)
	}
}
