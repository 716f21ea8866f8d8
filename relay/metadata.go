package relay

import (
	"encoding/base64"
	"strings"

	"github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/metadata"

	"github.com/framegate/framegate/relay/h2/hpack"
)

// metadataOf returns fields as metadata: by their names, and the values of -bin fields decoded. skip says which are left out.
func metadataOf(fields []*hpack.Field, skip func(*hpack.Field) bool) metadata.MD {
	md := make(metadata.MD, len(fields))
	for _, f := range fields {
		switch {
		case skip(f):
		case f.Binary():
			for v := range strings.SplitSeq(f.Value, ",") { // gRPC over HTTP/2, "Custom-Metadata"
				if b, err := decodeBinary(strings.Trim(v, " \t")); err == nil {
					md[f.Name] = append(md[f.Name], string(b))
				}
			}
		default:
			md[f.Name] = append(md[f.Name], f.Value)
		}
	}
	return md
}

// decodeBinary decodes the value of a -bin field, padded or not.
func decodeBinary(v string) ([]byte, error) {
	return base64.RawStdEncoding.DecodeString(strings.TrimRight(v, "="))
}

// appendMetadata appends the fields of metadata.
func appendMetadata(fields []*hpack.Field, in *hpack.Interner, md metadata.MD) []*hpack.Field {
	for name, values := range md {
		if name == "" || name[0] == ':' {
			continue
		}
		for _, v := range values {
			if strings.HasSuffix(name, "-bin") {
				v = base64.RawStdEncoding.EncodeToString([]byte(v))
			}
			fields = append(fields, in.Field(name, v, false))
		}
	}
	return fields
}

// fieldList are the fields of a request: spec.Fields.
type fieldList []*hpack.Field

// Values implements spec.Fields.
func (l *fieldList) Values(name string) (values []string) {
	for _, f := range *l {
		if f.Name == name {
			values = append(values, f.Value)
		}
	}
	return values
}
