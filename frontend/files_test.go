package frontend

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/moby/buildkit/client/llb"
	gwclient "github.com/moby/buildkit/frontend/gateway/client"
)

// TestFilesTexts: texts stand before what is on disk, and make a directory of their own.
func TestFilesTexts(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{"a": "disk", "b": "disk"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	f := &Files{Dirs: map[string]string{"both": dir}, Texts: map[string]map[string][]byte{"both": {"a": []byte("text")}, "only": {"a": []byte("text")}}}
	for _, tt := range []struct{ source, file, want string }{
		{"both", "a", "text"}, {"both", "/a", "text"}, {"both", "b", "disk"}, {"only", "a", "text"}, {"only", "b", ""},
	} {
		def, err := llb.Local(tt.source, llb.FollowPaths([]string{tt.file}), llb.Differ(llb.DiffNone, false)).Marshal(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		res, err := f.Solve(context.Background(), gwclient.SolveRequest{Definition: def.ToPB()})
		if err != nil {
			t.Fatal(err)
		}
		got, err := res.Ref.ReadFile(context.Background(), gwclient.ReadRequest{Filename: tt.file})
		if string(got) != tt.want || (tt.want == "") != errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s of %s is %q, %v, want %q", tt.file, tt.source, got, err, tt.want)
		}
		if st, err := res.Ref.StatFile(context.Background(), gwclient.StatRequest{Path: tt.file}); err == nil && st.Size != int64(len(tt.want)) || (tt.want == "") != (err != nil) {
			t.Errorf("%s of %s: %v, %v", tt.file, tt.source, st, err)
		}
		if got, _ := res.Ref.ReadFile(context.Background(), gwclient.ReadRequest{Filename: tt.file, Range: &gwclient.FileRange{Offset: 1, Length: 2}}); tt.want != "" && string(got) != tt.want[1:3] {
			t.Errorf("a part of %s is %q", tt.file, got)
		}
	}
}
