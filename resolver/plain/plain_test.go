package plain

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
	"gopkg.in/yaml.v3"
)

// odd is text that a terminal acts on or shows as what it is not.
var odd = []string{
	"\x1b[2J", "\x1b]0;title\a", "\x7f", "\x00", "\b", "\r", "\n", "\t", "\u0085", "\u009b31m", "\u009d0;t\u009c", "\u061c", "\u200b", "\u200e", "\u200f",
	"\u2028", "\u2029", "\u202a", "\u202e", "\u2066", "\u2069", "\ufeff", "\u00ad", "\u00a0", "\U000e0041", "\U0010fffd", "\ue000", "\xff", "\x9b", "\xc2", "\xed\xa0\x80",
}

// isShown reports whether every character of s is shown as itself.
func isShown(s string) bool {
	return utf8.ValidString(s) && !strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) })
}

func TestPlain_ShowsWhatIsOddAsEscapes(t *testing.T) {
	for _, o := range odd {
		for _, s := range []string{o, "a" + o + "b", o + o, "größe 名前 👍 " + o} {
			require.True(t, isShown(Text(s)), "%q", s)
			require.True(t, isShown(Line(s)), "%q", s)
			doc, err := json.Marshal(map[string]string{"k" + s: s})
			require.NoError(t, err)
			shown := JSON(doc)
			require.True(t, isShown(string(shown)), "%q", s)
			var got, want map[string]string
			require.NoError(t, json.Unmarshal(doc, &want))
			require.NoError(t, json.Unmarshal(shown, &got))
			require.Equal(t, want, got, "the same document")
		}
	}
}

func TestYAML_IsTheSameDocumentWithNothingOdd(t *testing.T) {
	for _, o := range append(odd, "plain") {
		if !utf8.ValidString(o) || o == "\n" { // which package yaml loses
			continue // and what is not UTF-8 it makes base64
		}
		v := map[string][]string{"k" + o: {o, "a" + o + "b", "größe 名前 👍", "two\nlines" + o, "two\nlines\n"}}
		doc, err := YAML(v)
		require.NoError(t, err)
		require.True(t, isShown(strings.NewReplacer("\n", "", "\t", "").Replace(string(doc))), "%q: %q", o, doc)
		var got map[string][]string
		require.NoError(t, yaml.Unmarshal(doc, &got), "%q: %q", o, doc)
		require.Equal(t, v, got)
	}
}

func TestPlain_LeavesTheRestAsItIs(t *testing.T) {
	for _, s := range []string{"", "echo.Echo", `say "hi" C:\x`, "größe", "名前", "👍", "q\u0301", "  two  spaces "} {
		require.Equal(t, s, Text(s))
		require.Equal(t, s, Line(s))
		doc := []byte("{\n\t\"a\": \"" + strings.ReplaceAll(s, `"`, "") + "\"\r\n}\n")
		require.Equal(t, string(doc), string(JSON(doc)))
	}
	require.Equal(t, `"a\x1b\u202e\xff\n"`, Text("a\x1b\u202e\xff\n"))
	require.Equal(t, `a "b\x1b\u202e\xff\n" c`, Line("a \"b\x1b\u202e\xff\n\" c"))
	require.Equal(t, `"\u009b\u202e\udb40\udc41"`, string(JSON([]byte("\"\u009b\u202e\U000e0041\""))))
}

func TestWriter_KeepsLines(t *testing.T) {
	var text, doc bytes.Buffer
	p := []byte("one \x7f\ntwo \u202e\n")
	n, err := Lines(&text).Write(p)
	require.NoError(t, err)
	require.Equal(t, len(p), n)
	require.Equal(t, "one \\x7f\ntwo \\u202e\n", text.String())
	_, err = JSONLines(&doc).Write([]byte("{\"a\":\"\x7f\"}\n{}\n"))
	require.NoError(t, err)
	require.Equal(t, "{\"a\":\"\\u007f\"}\n{}\n", doc.String())
}

func FuzzPlain(f *testing.F) {
	for _, o := range odd {
		f.Add("a" + o)
	}
	f.Fuzz(func(t *testing.T, s string) {
		require.True(t, isShown(Text(s)))
		require.True(t, isShown(Line(s)))
		doc, err := json.Marshal(s)
		require.NoError(t, err)
		var got, want string
		require.NoError(t, json.Unmarshal(doc, &want))
		require.NoError(t, json.Unmarshal(JSON(doc), &got))
		require.Equal(t, want, got)
		require.True(t, isShown(string(JSON(doc))))
	})
}

func TestPlain_CostsNothingForPlainText(t *testing.T) {
	s, doc := "/echo.Echo/Say", []byte(`{"method":"/echo.Echo/Say"}`)
	require.Zero(t, testing.AllocsPerRun(100, func() { _, _, _ = Text(s), Line(s), JSON(doc) }))
}
