package memo

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	digest "github.com/opencontainers/go-digest"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"
)

func sample() *Record {
	return &Record{
		Key:      digest.FromString("key"),
		Kind:     KindImage,
		Image:    &ocispecs.Descriptor{MediaType: ocispecs.MediaTypeImageIndex, Digest: digest.FromString("image"), Size: 42},
		Metadata: map[string]string{"b": "2", "a": "1"},
		Names:    []string{"app:latest"},
		Tool:     "v1",
		Created:  time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC),
		Parts:    []byte("parts of the key"),
	}
}

// TestEncodingIsPinned fails when the bytes change: stores outlive versions, so that
// must not happen without a new version.
func TestEncodingIsPinned(t *testing.T) {
	b, err := Encode(sample())
	if err != nil {
		t.Fatal(err)
	}
	want := `zlayer-memo 1 463 16 ` + digest.FromString(pinned).Encoded() + "\n" + pinned + "parts of the key"
	if diff := cmp.Diff(want, string(b)); diff != "" {
		t.Errorf("encoding (-want +got):\n%s", diff)
	}
}

const pinned = `{"key":"sha256:2c70e12b7a0646f92279f427c7b38e7334d8e5389cff167a1dc30e73f826b683","kind":"image","image":{"mediaType":"application/vnd.oci.image.index.v1+json","digest":"sha256:6105d6cc76af400325e94d588ce511be5bfdbb73b437dc51eca43917d7a43e3d","size":42},"metadata":{"a":"1","b":"2"},"names":["app:latest"],"tool":"v1","created":"2026-01-02T03:04:05.000000006Z","partsDigest":"sha256:e18964bd0f4b266ad0df3dc1f3d75e1dbb94dcc1b4a9e3f0f65d6f65df3fecab","partsSize":16}`

func TestDecode(t *testing.T) {
	want := sample()
	b, err := Encode(want)
	if err != nil {
		t.Fatal(err)
	}
	got, err := Decode(b)
	if err != nil {
		t.Fatal(err)
	}
	want.PartsDigest, want.PartsSize = digest.FromBytes(want.Parts), int64(len(want.Parts))
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("record (-want +got):\n%s", diff)
	}
	again, err := Encode(got)
	if err != nil || !bytes.Equal(b, again) {
		t.Errorf("encoded again: %v\n%s\n%s", err, b, again)
	}
}

// TestDecodeNoticesEverything edits a record in every way that one byte allows.
func TestDecodeNoticesEverything(t *testing.T) {
	b, err := Encode(sample())
	if err != nil {
		t.Fatal(err)
	}
	for i := range b {
		if r, err := Decode(b[:i]); err == nil {
			t.Fatalf("the first %d of %d bytes: %+v", i, len(b), r)
		}
		for bit := range 8 {
			c := bytes.Clone(b)
			c[i] ^= 1 << bit
			if r, err := Decode(c); !errors.Is(err, errDamaged) {
				t.Fatalf("byte %d, bit %d: %v, %v", i, bit, r, err)
			}
		}
		if _, err := Decode(append(bytes.Clone(b[:i]), b[i+1:]...)); !errors.Is(err, errDamaged) {
			t.Fatalf("without byte %d: %v", i, err)
		}
		if _, err := Decode(append(append(bytes.Clone(b[:i]), 0), b[i:]...)); !errors.Is(err, errDamaged) {
			t.Fatalf("with a zero before byte %d: %v", i, err)
		}
	}
	if _, err := Decode(make([]byte, len(b))); !errors.Is(err, errDamaged) {
		t.Errorf("zeros: %v", err)
	}
}

func TestDecodeRefuses(t *testing.T) {
	framed := func(format string, args ...any) string {
		text := fmt.Sprintf(format, args...)
		return fmt.Sprintf("zlayer-memo 1 %d 0 %s\n%s", len(text), digest.FromString(text).Encoded(), text)
	}
	key := digest.FromString("key")
	if _, err := Decode([]byte(framed(`{"key":%q,"kind":"none","created":"2026-01-01T00:00:00Z","later":true}`, key))); err != nil {
		t.Errorf("a field to be ignored: %v", err)
	}
	for _, c := range []struct{ in, want string }{
		{"", "truncated"},
		{"\n", "no such line"},
		{"zlayer-memo", "truncated"},
		{strings.Repeat("x", 1000), "no such line"},
		{"zlayer-memo 2 whatever comes then\n{}", `version "2"`},
		{"zlayer-memo 1 2 0\n{}", "4 fields"},
		{"zlayer-memo 1 -2 0 x\n{}", "no length"},
		{"zlayer-memo 1 02 0 x\n{}", "no length"},
		{"zlayer-memo 1 99999999999999999999 0 x\n{}", "no length"},
		{"zlayer-memo 1 1048576 0 x\n{}", "no length"},
		{"zlayer-memo 1 2 99000000 x\n{}", "no length"},
		{"zlayer-memo 1 2 0 x\n{}", "digest"},
		{framed(`{}`), "key"},
		{framed(`[]`), "cannot unmarshal"},
		{framed(`{"key":%q,"kind":"fish"}`, key), "fish"},
		{framed(`{"key":%q,"kind":"file","digest":"sha256:1"}`, key), "digest of the content"},
		{framed(`{"key":%q,"kind":"none","created":"9999-12-31T23:59:59-23:00"}`, key), "year 10000"},
		{framed(`{"key":%q,"kind":"none","partsDigest":%q,"partsSize":99000000}`, key, key), "99000000"},
	} {
		if r, err := Decode([]byte(c.in)); !errors.Is(err, errDamaged) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%.60q: %v, %v, want %q", c.in, r, err, c.want)
		}
	}
}

// FuzzDecode holds the decoder to its promise: what it takes, it would write.
func FuzzDecode(f *testing.F) {
	b, err := Encode(sample())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add(b[:len(b)-1])
	f.Add(bytes.Replace(b, []byte(" 1 "), []byte(" 2 "), 1))
	f.Add([]byte("zlayer-memo 1 2 0 44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a\n{}"))
	f.Fuzz(func(t *testing.T, in []byte) {
		checkDecoded(t, in)
		// The digest keeps most inputs out, so the text is also given one that is right.
		line := fmt.Sprintf("zlayer-memo 1 %d 0 %s\n", len(in), digest.FromBytes(in).Encoded())
		checkDecoded(t, append([]byte(line), in...))
	})
}

func checkDecoded(t *testing.T, in []byte) {
	r, err := Decode(in)
	if err != nil {
		if !errors.Is(err, errDamaged) {
			t.Fatalf("%q: %v is not damage", in, err)
		}
		return
	}
	out, err := Encode(r)
	if err != nil {
		t.Fatalf("%q: decoded, but %v", in, err)
	}
	again, err := Decode(out)
	if err != nil {
		t.Fatalf("%q became %q: %v", in, out, err)
	}
	if same, err := Encode(again); err != nil || !bytes.Equal(out, same) {
		t.Fatalf("%q became %q and then %q: %v", in, out, same, err)
	}
}

// TestValidate: a digest is valid where the library says so.
func TestValidate(t *testing.T) {
	good := digest.FromString("x").String()
	for _, d := range []string{
		good, "", "sha256:", good[1:], good + "0", good[:len(good)-1], good[:20] + "g" + good[21:], good[:20] + "A" + good[21:], "sha256:" + good,
		"sha384:" + good[7:], "md5:" + good[7:], good[7:], strings.Repeat("a", 71), digest.SHA512.FromString("x").String(),
	} {
		if got, want := validate(digest.Digest(d)), digest.Digest(d).Validate(); (got == nil) != (want == nil) {
			t.Errorf("%s: got %v, want %v", d, got, want)
		}
	}
}
