package engine

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/moby/buildkit/client"
	digest "github.com/opencontainers/go-digest"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/zlayer-dev/zlayer/frontend/wasm"
	"github.com/zlayer-dev/zlayer/solver/memo"
	"github.com/zlayer-dev/zlayer/store"
)

// attestationPrefix keeps what the daemon says about a file apart from the file.
const attestationPrefix = ".zlayer-attestation."

// attestationsKey is where the record of a binary lists what was said about it.
const attestationsKey = "zlayer.attestations"

// WasmAttestation is a statement about a WebAssembly artifact, as an artifact of its own
// that refers to it.
type WasmAttestation struct {
	// PredicateType is the kind of the statement.
	PredicateType string `json:"predicateType"`
	// Digest is that of the manifest with the statement.
	Digest digest.Digest `json:"digest"`
}

// wasmStatement is an in-toto statement and the name of its file.
type wasmStatement struct {
	name string
	text []byte
}

// attested tells whether statements about the result were asked for.
func (j *job) attested() bool {
	_, sbom := j.attrs["attest:sbom"]
	_, provenance := j.attrs["attest:provenance"]
	return sbom || provenance
}

// wasmExport has the daemon put the result into a directory, and what it says about it
// beside it.
func wasmExport(dir string) client.ExportEntry {
	return client.ExportEntry{Type: client.ExporterLocal, OutputDir: dir, Attrs: map[string]string{"attestation-prefix": attestationPrefix}}
}

// readStatements reads what the daemon has put beside the result.
func (j *job) readStatements() ([]wasmStatement, error) {
	if !j.attested() {
		return nil, nil
	}
	entries, err := os.ReadDir(j.wasm.dir)
	if err != nil {
		return nil, fmt.Errorf("fetching attestations: %w", err)
	}
	var list []wasmStatement
	for _, e := range entries {
		name, ok := strings.CutPrefix(e.Name(), attestationPrefix)
		if !ok {
			continue
		}
		text, err := os.ReadFile(filepath.Join(j.wasm.dir, e.Name()))
		if err != nil {
			return nil, fmt.Errorf("fetching attestations: %w", err)
		}
		list = append(list, wasmStatement{name, text})
	}
	return list, nil
}

// attest makes the statements ones about the artifact, or about the file alone.
func (d *wasmDelivery) attest(list []wasmStatement) error {
	for _, s := range list {
		if d.artifact == nil {
			text, err := wasm.Statement(d.file, digest.FromBytes(d.data), s.text)
			if err != nil {
				return err
			}
			d.statements = append(d.statements, wasmStatement{s.name, text})
			continue
		}
		a, err := d.artifact.Attest(d.file, s.text)
		if err != nil {
			return err
		}
		d.statements = append(d.statements, wasmStatement{s.name, a.Layer})
		d.referrers = append(d.referrers, a)
	}
	return nil
}

// attestations are the referrers as results report them.
func (d *wasmDelivery) attestations() []WasmAttestation {
	var list []WasmAttestation
	for _, r := range d.referrers {
		list = append(list, WasmAttestation{PredicateType: r.PredicateType(), Digest: r.Descriptor.Digest})
	}
	return list
}

// attach puts the referrers, whose blobs are in the store, beside the artifact.
func (d *wasmDelivery) attach(s *store.Store) error {
	for _, r := range d.referrers {
		added, err := s.Attach(d.ctx, r.Descriptor)
		if err != nil {
			return err
		}
		d.changed = d.changed || added
	}
	return nil
}

// files are the result and the statements about it.
func (d *wasmDelivery) files() (names []string, data map[string][]byte, err error) {
	names, data = []string{d.file}, map[string][]byte{d.file: d.data}
	for _, s := range d.statements {
		if s.name == d.file {
			return nil, nil, inputErrorf("the result is called %s, and so is an attestation: set wasm.output to another name", s.name)
		}
		names, data[s.name] = append(names, s.name), s.text
	}
	return names, data, nil
}

// rememberedStatement is how a record tells of a statement, which is in the store.
type rememberedStatement struct {
	Name   string        `json:"name"`
	Digest digest.Digest `json:"digest"`
	Size   int64         `json:"size"`
}

// statementsMetadata lists the statements for a record.
func statementsMetadata(list []wasmStatement) (map[string]string, error) {
	if len(list) == 0 {
		return nil, nil
	}
	var out []rememberedStatement
	for _, s := range list {
		out = append(out, rememberedStatement{s.name, digest.FromBytes(s.text), int64(len(s.text))})
	}
	text, err := json.Marshal(out)
	return map[string]string{attestationsKey: string(text)}, err
}

// recallStatements finds the statements of a record; false if one is not at hand.
func (j *job) recallStatements(ctx context.Context, rec *memo.Record) ([]wasmStatement, bool) {
	if !j.attested() {
		return nil, true
	}
	s, err := j.engine.Store()
	if err != nil {
		return nil, false
	}
	var list []rememberedStatement
	if json.Unmarshal([]byte(rec.Metadata[attestationsKey]), &list) != nil {
		return nil, false
	}
	var out []wasmStatement
	for _, r := range list {
		text, err := content.ReadBlob(ctx, s.Content(), ocispecs.Descriptor{Digest: r.Digest, Size: r.Size})
		if err != nil || digest.FromBytes(text) != r.Digest {
			return nil, false
		}
		out = append(out, wasmStatement{r.Name, text})
	}
	return out, true
}

// checkAttestations refuses attestations that have no place in any output.
func (j *job) checkAttestations(list []Output) error {
	holds := func(o Output) bool { return o.Type != OutputLocal || !strings.HasSuffix(o.Dest, ".wasm") }
	if !j.attested() || slices.ContainsFunc(list, holds) {
		return nil
	}
	return inputErrorf("there is no place for attestations beside a file alone: use the image store, -o DIRECTORY or -o type=oci")
}
