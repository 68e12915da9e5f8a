package engine

import (
	"archive/tar"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/containerd/containerd/v2/core/content"
	digest "github.com/opencontainers/go-digest"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/zlayer-dev/zlayer/graph"
	"github.com/zlayer-dev/zlayer/solver/memo"
)

// wasmKey is what the record of a build's binary is filed under.
func (k *keys) wasmKey() digest.Digest {
	h := graph.NewHasher("zlayer.wasm.record.v1")
	h.String(string(k.base))
	return h.Digest()
}

// recallWasm delivers the binary that an earlier build of the same key has made, if
// it is still at hand. The error is errMissed if not.
func (j *job) recallWasm(ctx context.Context, k *keys) (*Result, error) {
	if len(j.outputs.exports) == 0 || len(j.cacheTo) > 0 || j.wasm.compiled() == nil {
		return nil, errMissed
	}
	rec, err := j.run.memo.Get(ctx, k.wasmKey())
	if err != nil || rec.Kind != memo.KindFile {
		return nil, errMissed
	}
	data := j.findWasm(ctx, rec)
	statements, found := j.recallStatements(ctx, rec)
	if data == nil || !found {
		return nil, errMissed
	}
	if s := j.outputs.store; s != nil {
		lease, err := s.Lease(ctx)
		if err != nil {
			return nil, err
		}
		defer lease.Close()
	}
	done, err := j.run.export(ctx)
	if err != nil {
		return nil, err
	}
	defer done()
	res := &Result{Graph: k.graph, Stages: StageCounts{Cached: len(k.shownStages())}}
	j.tell(k, res)
	res.Restored, err = j.deliverBinary(ctx, res, data, statements)
	return res, err
}

// findWasm looks for the binary of a record: in the store, and where earlier builds
// have put it.
func (j *job) findWasm(ctx context.Context, rec *memo.Record) []byte {
	if data := j.storedBlob(ctx, rec); data != nil {
		return data
	}
	var files []string
	for _, f := range j.wasm.files {
		if !strings.HasSuffix(f, ".wasm") {
			f = filepath.Join(f, j.wasm.compiled().File)
		}
		files = append(files, f)
	}
	for _, dir := range j.wasm.layouts {
		files = append(files, filepath.Join(dir, ocispecs.ImageBlobsDir, rec.Digest.Algorithm().String(), rec.Digest.Encoded()))
	}
	for _, f := range files {
		if fi, err := os.Stat(f); err != nil || fi.Size() != rec.Size {
			continue
		}
		if data, err := readWasm(f); err == nil && isOf(rec, data) {
			return data
		}
	}
	for _, f := range j.wasm.archives {
		if data := archived(f, rec); data != nil {
			return data
		}
	}
	return nil
}

// archived is the file of a record, as an archive has it; nil if that has not.
func archived(name string, rec *memo.Record) []byte {
	if fi, err := os.Stat(name); err != nil || !fi.Mode().IsRegular() || rec.Size > min(fi.Size(), maxWasm) {
		return nil
	}
	f, err := os.Open(name)
	if err != nil {
		return nil
	}
	defer f.Close()
	for tr := tar.NewReader(f); ; {
		h, err := tr.Next()
		if err != nil {
			return nil
		}
		if h.Size != rec.Size {
			continue
		}
		if data, err := io.ReadAll(tr); err == nil && isOf(rec, data) {
			return data
		}
	}
}

// storedBlob is the file of a record, as the store has it; nil if that has not.
func (j *job) storedBlob(ctx context.Context, rec *memo.Record) []byte {
	s, err := j.engine.Store()
	if err != nil || rec.Size > maxWasm {
		return nil
	}
	data, err := content.ReadBlob(ctx, s.Content(), ocispecs.Descriptor{Digest: rec.Digest, Size: rec.Size})
	if err != nil || !isOf(rec, data) {
		return nil
	}
	return data
}

// isOf reports whether data is what a record of a file names.
func isOf(rec *memo.Record, data []byte) bool {
	return int64(len(data)) == rec.Size && digest.FromBytes(data) == rec.Digest
}

// rememberWasm records which binary a build has made.
func (j *job) rememberWasm(ctx context.Context, k *keys, res *Result) error {
	b := j.wasm.compiled()
	if b == nil || res.Wasm == nil {
		return nil
	}
	data, err := readWasm(filepath.Join(j.wasm.dir, b.File))
	if err != nil {
		return err
	}
	said, err := statementsMetadata(j.wasm.statements)
	if err != nil {
		return err
	}
	j.rememberWasmStage(ctx, k, data)
	return j.run.memo.Put(ctx, &memo.Record{
		Key: k.wasmKey(), Kind: memo.KindFile, Digest: digest.FromBytes(data), Size: int64(len(data)), Names: j.outputs.names, Metadata: said,
		Tool: j.engine.cfg.Version, Created: time.Now(), Parts: j.partsOf(ctx, k),
	})
}

func readWasm(file string) ([]byte, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, fmt.Errorf("fetching the result: %w", err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxWasm+1))
	if err != nil {
		return nil, fmt.Errorf("fetching the result: %w", err)
	}
	if len(data) > maxWasm {
		return nil, fmt.Errorf("fetching the result: it is larger than %d MiB", maxWasm>>20)
	}
	return data, nil
}
