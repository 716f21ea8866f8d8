package structmode

import (
	"fmt"
	"reflect"

	"google.golang.org/protobuf/proto"
)

// kitexMessage has the methods of message types that Kitex generated.
type kitexMessage interface {
	Marshal(in []byte) ([]byte, error)
	Unmarshal(in []byte) error
}

// generated decodes and encodes messages of one generated type. Both functions keep fields that the type does not know.
type generated struct {
	unmarshal func(b []byte, m any) error
	marshal   func(m any) ([]byte, error)
}

// generatedOf returns the functions for the type T. It fails if *T is no generated message, or loses fields that it does not
// know.
func generatedOf[T any]() (generated, error) {
	switch any(new(T)).(type) {
	case kitexMessage:
		if err := keepsUnknownFields(reflect.TypeFor[T](), map[reflect.Type]bool{}); err != nil {
			return generated{}, err
		}
		return generated{
			unmarshal: func(b []byte, m any) error { return m.(kitexMessage).Unmarshal(b) },
			marshal:   func(m any) ([]byte, error) { return m.(kitexMessage).Marshal(nil) },
		}, nil
	case proto.Message:
		opts := proto.MarshalOptions{AllowPartial: true, Deterministic: true}
		return generated{
			unmarshal: func(b []byte, m any) error {
				return proto.UnmarshalOptions{AllowPartial: true}.Unmarshal(b, m.(proto.Message))
			},
			marshal: func(m any) ([]byte, error) { return opts.Marshal(m.(proto.Message)) },
		}, nil
	}
	return generated{}, fmt.Errorf("%v, want a type that Kitex or protoc-gen-go generated", reflect.TypeFor[T]())
}

// keepsUnknownFields returns an error if t, a message type that Kitex generated, or the type of a message in it loses fields
// that it does not know. seen has the types that were checked already.
func keepsUnknownFields(t reflect.Type, seen map[reflect.Type]bool) error {
	for t.Kind() == reflect.Pointer || t.Kind() == reflect.Slice || t.Kind() == reflect.Map {
		t = t.Elem()
	}
	if t.Kind() != reflect.Struct || seen[t] {
		return nil
	}
	seen[t] = true
	if _, ok := t.FieldByName("unknownFields"); !ok { // the name that the generator gives it
		return fmt.Errorf("%v, want a type that keeps fields it does not know: generated from a .proto with //prutalgen:unknown_fields above its syntax", t)
	}
	for i := range t.NumField() {
		if f := t.Field(i); f.IsExported() && f.Type.Kind() != reflect.Interface {
			if err := keepsUnknownFields(f.Type, seen); err != nil {
				return err
			}
		}
	}
	oneofs, ok := reflect.New(t).Interface().(interface{ XXX_OneofWrappers() []any })
	if !ok {
		return nil
	}
	for _, w := range oneofs.XXX_OneofWrappers() {
		wrapper := reflect.TypeOf(w).Elem()
		if err := keepsUnknownFields(wrapper.Field(0).Type, seen); err != nil {
			return err
		}
	}
	return nil
}
