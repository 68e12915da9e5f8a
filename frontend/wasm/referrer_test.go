package wasm

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	digest "github.com/opencontainers/go-digest"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"
)

// provenance is what two runs of the same build may say: names, digests, times and orders differ. The
// second one finds layers that the daemon has made for others.
func provenance(run, a, b string) string {
	layers := ""
	if run == "second" {
		layers = `"layers":{"step2:0":[[{"digest":"sha256:00","size":1}]]},`
	}
	locals := `{"name":"context-` + a + `"},{"name":"context-` + b + `"}`
	if a > b {
		locals = `{"name":"context-` + b + `"},{"name":"context-` + a + `"}`
	}
	return `{"_type":"https://in-toto.io/Statement/v1","predicateType":"https://slsa.dev/provenance/v1","subject":[{"name":"module.wasm","digest":{"sha256":"00"}}],
"predicate":{"runDetails":{"metadata":{"startedOn":"` + run + `","finishedOn":"` + run + `","invocationId":"` + run + `","buildkit_metadata":{` + layers + `"n":12345678901234567890}}},
"buildDefinition":{"externalParameters":{"request":{"locals":[` + locals + `,{"name":"dockerfile"}]}},
"internalParameters":{"buildConfig":{"digestMapping":{"sha256:` + run + `":"step0"},"llbDefinition":[{"identifier":"local://context-` + a + `"},{"identifier":"local://context-` + b + `"},{"identifier":"docker-image://x"}]}}}}}`
}

func TestAttest(t *testing.T) {
	info, err := Inspect(wasiModule())
	if err != nil {
		t.Fatal(err)
	}
	a, err := Pack(wasiModule(), info, PackOptions{Name: "app"})
	if err != nil {
		t.Fatal(err)
	}
	one, two := strings.Repeat("1", 20), strings.Repeat("2", 20)
	first, err := a.Attest("module.wasm", []byte(provenance("first", one, two)))
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "testdata/pack/provenance.json", string(first.Manifest)+"\n"+string(first.Layer)+"\n")
	for _, text := range []string{provenance("second", two, one), string(first.Layer)} {
		again, err := a.Attest("module.wasm", []byte(text))
		if err != nil || !bytes.Equal(again.Manifest, first.Manifest) {
			t.Errorf("an equal build says %v\n%s, want\n%s", err, again.Layer, first.Layer)
		}
	}
	if first.PredicateType() != "https://slsa.dev/provenance/v1" || first.Content.Subject.Digest != a.Descriptor.Digest || first.Descriptor.ArtifactType != StatementMediaType {
		t.Errorf("the referrer is %+v", first.Content)
	}
	var m ocispecs.Manifest
	if err := json.Unmarshal(first.Manifest, &m); err != nil || m.Config.Digest != digest.FromBytes(first.Config) || m.Layers[0].Digest != digest.FromBytes(first.Layer) {
		t.Errorf("%+v, %v", m, err)
	}
}

// TestAttestKeeps: what others say is not touched.
func TestAttestKeeps(t *testing.T) {
	text, err := Statement("app.wasm", digest.FromString("x"), []byte(`{"predicateType":"https://spdx.dev/Document","predicate":{"startedOn":"now","name":"context-`+strings.Repeat("a", 20)+`"}}`))
	if err != nil {
		t.Fatal(err)
	}
	want := `"predicate":{"startedOn":"now","name":"context-` + strings.Repeat("a", 20) + `"}`
	if !strings.Contains(string(text), want) || !strings.Contains(string(text), `"subject":[{"name":"app.wasm","digest":{"sha256":"`+digest.FromString("x").Encoded()) {
		t.Errorf("got %s, want %s", text, want)
	}
	for _, bad := range []string{"", "{", `{"predicate":{}}`, `{"predicateType":"x"}`} {
		if _, err := Statement("app.wasm", digest.FromString("x"), []byte(bad)); err == nil {
			t.Errorf("%q is a statement", bad)
		}
	}
}

// FuzzStatement: what is taken for a statement comes out as one, and settles at once.
func FuzzStatement(f *testing.F) {
	f.Add([]byte(provenance("run", strings.Repeat("b", 20), strings.Repeat("a", 20))))
	f.Add([]byte(`{"predicateType":"https://slsa.dev/provenance/v0.2","predicate":{"metadata":{"buildInvocationID":"x"},"locals":[1,{"name":2}]}}`))
	f.Add([]byte(`{"predicateType":"x","predicate":null}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		d := digest.FromString("x")
		once, err := Statement("a.wasm", d, text)
		if err != nil {
			return
		}
		twice, err := Statement("a.wasm", d, once)
		if err != nil || !bytes.Equal(once, twice) {
			t.Errorf("%s\nbecomes %s, %v", once, twice, err)
		}
	})
}
