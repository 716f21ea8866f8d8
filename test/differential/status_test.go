package differential

import (
	"fmt"
	"strings"

	"github.com/framegate/framegate/test/testbed"
)

// statusScripts are the statuses of answers, each in trailers and in an answer of trailers only.
func statusScripts() []script {
	var all []script
	add := func(name string, status testbed.Fields) {
		call := testbed.RequestFields()
		all = append(all,
			script{name: "status/trailers/" + name, request: call, acts: []act{ask, accept, respond, finish(status)}},
			script{name: "status/only/" + name, request: call, acts: []act{ask, finish(append(testbed.ResponseFields(), status...))}},
		)
	}
	for code := range 17 {
		add(fmt.Sprint(code), testbed.StatusFields(code, fmt.Sprintf("message of %d", code)))
	}
	for _, code := range []string{"17", "99", "1073741824", "2147483647", "00", "07", "+5"} {
		add("code "+code, testbed.NewFields("grpc-status", code, "grpc-message", "why"))
	}
	for _, code := range []string{"2147483648", "4294967295", "99999999999999999999", "-1", "NOT_FOUND", "5.0", "0x5", ""} {
		add("no code "+code, testbed.NewFields("grpc-status", code, "grpc-message", "why", "x-other", "1"))
	}
	add("no grpc-status", testbed.NewFields("grpc-message", "why", "x-other", "1"))
	add("two of them", testbed.NewFields("grpc-status", "5", "grpc-message", "a", "grpc-status", "7", "grpc-message", "b"))
	add("no message", testbed.NewFields("grpc-status", "5"))
	add("message before code", testbed.NewFields("grpc-message", "why", "grpc-status", "5"))
	for name, m := range map[string]string{
		"empty": "", "percent": "50%25 of 100%25", "unicode": "%E2%98%BA and %F0%9F%98%88", "lower-case hex": "%e2%98%ba", "bad": "100% %zz %4",
		"escaped for nothing": "%61%20b", "line breaks": "a%0Ab%0D%0A", "space at the end": "a: ", "space before": " a", "tab at the end": "a\t",
		"raw UTF-8": "ä☺", "no UTF-8": "\xff\xfe", "no UTF-8, escaped": "%FF%FE", "all of ASCII": ` !"#$&'()*+,-./09:;<=>?@AZ[\]^_az{|}~`,
		"long": strings.Repeat("long%20%C3%A4", 300), "NUL, escaped": "a%00b",
	} {
		add("message "+name, testbed.StatusFields(2, m))
		if name == "unicode" || name == "bad" {
			add("OK with message "+name, testbed.StatusFields(0, m))
		}
	}
	for name, details := range map[string]string{
		"of details":             encode(detailsWithUnknownField()),
		"padded":                 encode("\x08\x09\x12\x01m") + "=",
		"none in it":             encode("\x08\x09" + field(2, "m")),
		"of another code":        encode("\x08\x05" + field(2, "m") + field(3, field(1, "type.googleapis.com/x"))),
		"of another message":     encode("\x08\x09" + field(2, "another") + field(3, field(1, "type.googleapis.com/x"))),
		"nothing":                "",
		"no protobuf":            encode("\xff\xff\xff"),
		"every byte":             encode(everyByte()),
		"no base64":              "!!!",
		"two, joined":            encode("\x08\x09") + "," + encode("\x08\x09"),
		"of a code that is none": encode("\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"),
	} {
		add("details "+name, testbed.StatusFields(9, "m", "grpc-status-details-bin", details))
	}
	add("details twice", testbed.StatusFields(9, "m", "grpc-status-details-bin", encode("\x08\x09"), "grpc-status-details-bin", encode(detailsWithUnknownField())))
	add("details of OK", testbed.StatusFields(0, "", "grpc-status-details-bin", encode("\x08\x00")))
	add("biz-status", testbed.StatusFields(13, "m", "biz-status", "404", "biz-extra", `{"item":"b"}`))
	add("biz-status that is no number", testbed.StatusFields(5, "m", "biz-status", "some word"))
	add("biz-status over int32", testbed.StatusFields(5, "m", "biz-status", "4294967295"))
	add("biz-extra that is no JSON", testbed.StatusFields(5, "m", "biz-status", "7", "biz-extra", "{"))
	add("binary fields that are none", testbed.StatusFields(5, "m", "grpc-trace-bin", "!", "grpc-tags-bin", "a!!", "x-some-bin", "!"))
	add("grpc-timeout", testbed.StatusFields(5, "m", "grpc-timeout", "soon"))
	add("pushback", testbed.StatusFields(14, "m", "grpc-retry-pushback-ms", "100"))
	add("another framegate's", testbed.StatusFields(14, "framegate: no", "framegate-error", "overloaded", "grpc-retry-pushback-ms", "100"))
	add("like another framegate's", testbed.StatusFields(14, "no", "framegate-error", "overloaded"))
	return all
}

// detailsWithUnknownField is a google.rpc.Status of code 9 and message "m" with two details and a field that nobody knows.
func detailsWithUnknownField() string {
	detail := func(typeURL, value string) string { return field(1, typeURL) + field(2, value) }
	return "\x08\x09" + field(2, "m") +
		field(3, detail("type.googleapis.com/google.protobuf.StringValue", field(1, "first"))) +
		field(3, detail("type.googleapis.com/nobody.Knows", "\x00\xff\x80")) +
		field(15, "unknown")
}

// field is a protobuf field of wire type 2 and less than 128 bytes.
func field(number int, value string) string {
	return string([]byte{byte(number<<3 | 2), byte(len(value))}) + value
}
