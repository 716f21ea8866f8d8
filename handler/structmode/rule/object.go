package rule

import (
	"fmt"
	"reflect"

	"github.com/google/cel-go/common/types"
	"github.com/google/cel-go/common/types/ref"
	"github.com/google/cel-go/common/types/traits"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// object is a message as a value of CEL.
type object struct {
	schema  *schema
	message protoreflect.Message
}

var (
	_ traits.FieldTester = (*object)(nil)
	_ traits.Indexer     = (*object)(nil)
	_ traits.Zeroer      = (*object)(nil)
)

// ConvertToNative implements ref.Val.
func (o *object) ConvertToNative(t reflect.Type) (any, error) {
	if m := o.message.Interface(); reflect.TypeOf(m).AssignableTo(t) {
		return m, nil
	}
	return nil, fmt.Errorf("a message of type %s is not a %v", o.message.Descriptor().FullName(), t)
}

// ConvertToType implements ref.Val.
func (o *object) ConvertToType(t ref.Type) ref.Val {
	switch {
	case t == types.TypeType:
		return o.schema.typeOf(o.message.Descriptor())
	case t.TypeName() == string(o.message.Descriptor().FullName()):
		return o
	}
	return types.NewErr("a message of type %s is not a %s", o.message.Descriptor().FullName(), t.TypeName())
}

// Equal implements ref.Val.
func (o *object) Equal(other ref.Val) ref.Val {
	m, ok := other.Value().(proto.Message)
	return types.Bool(ok && proto.Equal(o.message.Interface(), m))
}

// Type implements ref.Val.
func (o *object) Type() ref.Type { return o.schema.typeOf(o.message.Descriptor()) }

// Value implements ref.Val.
func (o *object) Value() any { return o.message.Interface() }

// IsZeroValue implements traits.Zeroer.
func (o *object) IsZeroValue() bool {
	zero := true
	o.message.Range(func(protoreflect.FieldDescriptor, protoreflect.Value) bool {
		zero = false
		return false
	})
	return zero && len(o.message.GetUnknown()) == 0
}

// IsSet implements traits.FieldTester.
func (o *object) IsSet(field ref.Val) ref.Val {
	fd, err := o.field(field)
	if err != nil {
		return err
	}
	return types.Bool(o.message.Has(fd))
}

// Get implements traits.Indexer.
func (o *object) Get(field ref.Val) ref.Val {
	fd, errVal := o.field(field)
	if errVal != nil {
		return errVal
	}
	v, err := o.schema.getFrom(o.message.Interface(), fd)
	if err != nil {
		return types.WrapErr(err)
	}
	return o.schema.NativeToValue(v)
}

// field returns the field with a name, or an error of CEL.
func (o *object) field(name ref.Val) (protoreflect.FieldDescriptor, ref.Val) {
	s, ok := name.(types.String)
	if !ok {
		return nil, types.MaybeNoSuchOverloadErr(name)
	}
	fd := o.message.Descriptor().Fields().ByName(protoreflect.Name(s))
	if fd == nil {
		return nil, types.NewErr("no such field: %s in %s", string(s), o.message.Descriptor().FullName())
	}
	return fd, nil
}
