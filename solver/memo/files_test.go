package memo

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	digest "github.com/opencontainers/go-digest"
)

func TestRecordOfFiles(t *testing.T) {
	epoch := int64(1700000000)
	r := &Record{
		Key: digest.FromString("k"), Kind: KindNone, Created: time.Unix(1, 0).UTC(),
		Files: &Files{
			Listing:   digest.FromString("l"),
			Platforms: []FilesPlatform{{ID: "linux/amd64", Epoch: &epoch}, {ID: "linux/arm64"}},
			Added:     []AddedFile{{Path: "linux_amd64/provenance.json", Data: []byte{0, 0xff}, Time: 5}},
		},
	}
	b, err := Encode(r)
	if err != nil {
		t.Fatal(err)
	}
	got, err := Decode(b)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(r, got); d != "" {
		t.Error(d)
	}
	c := r.Clone()
	*c.Files.Platforms[0].Epoch, c.Files.Platforms[1].ID, c.Files.Added[0].Path = 1, "x", "x"
	if d := cmp.Diff(r, got); d != "" {
		t.Errorf("the clone shares something:\n%s", d)
	}

	r.Files.Listing = "sha256:torn"
	if _, err := Encode(r); err == nil {
		t.Error("a listing without a digest was taken")
	}
	r.Files.Listing, r.Files.Added[0].Path = digest.FromString("l"), "\xff"
	if _, err := Encode(r); err == nil {
		t.Error("a path that JSON cannot hold was taken")
	}
}
