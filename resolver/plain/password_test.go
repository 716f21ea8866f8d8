package plain

import (
	"bytes"
	"log/slog"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestURL_HidesUserAndPassword(t *testing.T) {
	for s, want := range map[string]string{
		"http://u:s3cret@h:1":        "http://***@h:1",
		"u:s3cret@h:1":               "***@h:1",
		"https://u:s3c/ret@x@h:1/p":  "https://***@h:1/p",
		"http://u:s3c ret\"@h:1":     "http://***@h:1",
		"http://s3cret@h":            "http://***@h",
		"http://u:s3cret@":           "http://***@",
		"http://h:1/p":               "http://h:1/p",
		"h:1":                        "h:1",
		"":                           "",
		"unix:/run/a@b.sock":         "unix:/run/a@b.sock",
		"/run/a@b":                   "/run/a@b",
		"u:s3cret@http://h:1":        "***@http://h:1",
		"http://u:s3cret@[::1]:2379": "http://***@[::1]:2379",
	} {
		require.Equal(t, want, URL(s), s)
	}
}

func TestLine_HidesPasswordsOfURLs(t *testing.T) {
	for s, want := range map[string]string{
		`endpoints: "http://u:s3cret@h:1", want a list`:             `endpoints: "http://***@h:1", want a list`,
		"cannot decode `https://u:s3cret@h:1/p?q` and http://a:b@c": "cannot decode `https://***@h:1/p?q` and http://***@c",
		"ftp://u:p@s3cret@h x@y":                                    "ftp://***@h x@y",
		"see http://h/@user, not a://b":                             "see http://h/@user, not a://b",
		"://u:s3cret@h":                                             "://***@h",
		"u@h":                                                       "u@h",
	} {
		require.Equal(t, want, Line(s), s)
	}
}

func TestLines_LogsHavePasswordsNeitherAsTextNorAsJSON(t *testing.T) {
	var b bytes.Buffer
	for _, h := range []slog.Handler{slog.NewTextHandler(Lines(&b), nil), slog.NewJSONHandler(JSONLines(&b), nil)} {
		slog.New(h).Warn("no", "url", "http://u:s3cret@h:1", "error", `"http://u:s3cret@h:2", want host:port`, "all", []string{"http://u:s3cret@h:3"})
	}
	require.NotContains(t, b.String(), "s3cret")
	for _, host := range []string{"h:1", "h:2", "h:3"} {
		require.Equal(t, 2, bytes.Count(b.Bytes(), []byte("http://***@"+host)), b.String())
	}
}
