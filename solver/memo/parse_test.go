package memo

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestParse(t *testing.T) {
	local := StoreConfig{Type: TypeLocal}
	reg := StoreConfig{Type: TypeRegistry, Registry: RegistryConfig{Repository: "registry.example.com:5000/team/app"}}
	for _, c := range []struct {
		in   []string
		want []StoreConfig
	}{
		{nil, nil},
		{[]string{"off"}, nil},
		{[]string{"off", "off"}, nil},
		{[]string{"local"}, []StoreConfig{local}},
		{[]string{"local=/var/memo"}, []StoreConfig{{Type: TypeLocal, Path: "/var/memo"}}},
		{[]string{"local=a+b/c++"}, []StoreConfig{{Type: TypeLocal, Path: "a+b/c++"}}},
		{[]string{"local,ro,ttl=7d"}, []StoreConfig{{Type: TypeLocal, ReadOnly: true, TTL: 7 * 24 * time.Hour}}},
		{[]string{"local=x,ro,rw"}, []StoreConfig{{Type: TypeLocal, Path: "x"}}},
		{[]string{"local,ro=false"}, []StoreConfig{local}},
		{[]string{"registry=registry.example.com:5000/team/app"}, []StoreConfig{reg}},
		{[]string{"local+registry=registry.example.com:5000/team/app"}, []StoreConfig{local, reg}},
		{[]string{"local", "registry=registry.example.com:5000/team/app"}, []StoreConfig{local, reg}},
		{[]string{"local=x+registry=app,insecure,ro,timeout=2s+s3=bucket=b"}, []StoreConfig{
			{Type: TypeLocal, Path: "x"},
			{Type: TypeRegistry, ReadOnly: true, Registry: RegistryConfig{Repository: "app", Insecure: true, Timeout: 2 * time.Second}},
			{Type: TypeS3, S3: S3Config{Bucket: "b"}},
		}},
		{
			[]string{"s3=bucket=b,region=eu-central-1,endpoint_url=https://s3.example.com:9000,prefix=zlayer+s3/,use_path_style=true,anonymous,timeout=1m,ttl=168h"},
			[]StoreConfig{{Type: TypeS3, TTL: 168 * time.Hour, S3: S3Config{
				Bucket: "b", Region: "eu-central-1", Endpoint: "https://s3.example.com:9000", Prefix: "zlayer+s3/",
				PathStyle: true, Anonymous: true, Timeout: time.Minute,
			}}},
		},
		{[]string{"s3=bucket=b,prefix=x/", "s3=bucket=b,prefix=y/"}, []StoreConfig{
			{Type: TypeS3, S3: S3Config{Bucket: "b", Prefix: "x/"}}, {Type: TypeS3, S3: S3Config{Bucket: "b", Prefix: "y/"}},
		}},
	} {
		got, err := Parse(c.in...)
		if err != nil {
			t.Errorf("%q: %v", c.in, err)
			continue
		}
		if diff := cmp.Diff(c.want, got.Stores); diff != "" {
			t.Errorf("%q (-want +got):\n%s", c.in, diff)
		}
	}
}

func TestParseErrors(t *testing.T) {
	for in, want := range map[string]string{
		"":                                     "a store is missing: use off, local",
		"locla":                                `memo "locla": there is no "locla": use`,
		"local+":                               "local+",
		"local+locla":                          `"local+locla"`,
		"local=":                               "the directory is missing",
		"local,":                               "there is an empty option",
		"local,foo":                            `option "foo" is unknown for local: it has ro, rw, ttl`,
		"local,insecure":                       `option "insecure" is unknown for local`,
		"local,ttl":                            "ttl=: use a duration",
		"local,ttl=0s":                         "ttl=0s: use a duration like 30s, 168h or 7d",
		"local,ttl=-1h":                        "ttl=-1h",
		"local,ttl=1w":                         "ttl=1w",
		"local,ttl=999999999999d":              "ttl=999999999999d",
		"local,ro=maybe":                       "ro=maybe: use true or false",
		"local+local":                          `memo "local": it is named twice`,
		"off+local":                            `memo "off": it cannot be joined`,
		"registry":                             "the repository is missing: registry=HOST/NAME",
		"registry=":                            "the repository is missing",
		"registry=app:v1":                      `"app:v1" is no repository (it has neither tag nor digest)`,
		"registry=UPPER":                       `"UPPER" is no repository`,
		"registry=app,bucket=b":                `option "bucket" is unknown for registry`,
		"registry=app,password=s3cret":         "credentials are not taken here",
		"s3":                                   "the bucket is missing: s3=bucket=NAME",
		"s3=":                                  "there is an empty option",
		"s3=mybucket":                          `option "mybucket" is unknown for s3: it has ro, rw, ttl, timeout, bucket`,
		"s3=region=eu":                         "the bucket is missing",
		"s3=bucket=":                           "bucket has no value",
		"s3=bucket=b,endpoint_url=host":        "endpoint_url is no URL",
		"s3=bucket=b,endpoint_url=ftp://h":     "endpoint_url is no URL",
		"s3=bucket=b,use_path_style=maybe":     "use_path_style=maybe",
		"s3=bucket=b,secret_access_key=s3cret": "credentials are not taken here",
		"s3=bucket=b,access_key_id=s3cret":     "credentials are not taken here",
		"s3=bucket=b,endpoint_url=https://a:s3cret@h": "credentials in it",
	} {
		_, err := Parse(in)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", in, err, want)
		}
		if err != nil && strings.Contains(err.Error(), "s3cret") {
			t.Errorf("the secret is in %q", err)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{"off", "local=x+registry=app,insecure,ro,timeout=2s+s3=bucket=b,prefix=+local", "s3=bucket=b,endpoint_url=http://h,ttl=7d", "local,", "+"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, in string) {
		c, err := Parse(in)
		if err != nil {
			return
		}
		// What is taken can be opened, and asks nobody for it.
		if _, err := c.Open(Surroundings{Dir: "/none"}); err != nil {
			t.Fatalf("%q: parsed to %+v, but %v", in, c, err)
		}
		for _, s := range c.Stores {
			if s.TTL < 0 || s.S3.Timeout < 0 || s.Registry.Timeout < 0 {
				t.Fatalf("%q: %+v", in, s)
			}
		}
	})
}
