package plain

import "strings"

// hidden stands for the user and the password of a URL.
const hidden = "***"

// URL returns a URL, or an address that may have been meant as one, with its user and password hidden. s need not be valid:
// everything before the last @, except the scheme, is hidden.
func URL(s string) string {
	at := strings.LastIndexByte(s, '@')
	if at < 0 || strings.HasPrefix(s, "unix:") || strings.HasPrefix(s, "/") {
		return s
	}
	begin := 0
	if scheme := strings.Index(s[:at], "://"); scheme >= 0 {
		begin = scheme + len("://")
	}
	return s[:begin] + hidden + s[at:]
}

// WithoutPasswords returns a sentence with the users and passwords of the URLs in it hidden.
func WithoutPasswords(s string) string {
	if !strings.Contains(s, "://") {
		return s
	}
	var b strings.Builder
	for {
		scheme := strings.Index(s, "://")
		if scheme < 0 {
			break
		}
		begin := scheme + len("://")
		end := begin
		if stop := strings.IndexAny(s[begin:], " \t\r\n/?#\"'`<>"); stop >= 0 {
			end += stop
		} else {
			end = len(s)
		}
		b.WriteString(s[:begin])
		if at := strings.LastIndexByte(s[begin:end], '@'); at >= 0 {
			b.WriteString(hidden)
			begin += at
		}
		b.WriteString(s[begin:end])
		s = s[end:]
	}
	b.WriteString(s)
	return b.String()
}
