package rule

import (
	"github.com/google/cel-go/common/types"
	"github.com/google/cel-go/common/types/ref"
	"github.com/google/cel-go/common/types/traits"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// maxSearched bounds the elements of a repeated field that one "in" or one comparison may look through. A longer field is an
// error.
const maxSearched = 10_000

// list is a repeated field as a list of CEL.
type list struct{ traits.Lister }

func newList(adapter types.Adapter, l protoreflect.List) traits.Lister {
	return list{types.NewProtoList(adapter, l)}
}

// tooLong returns an error of CEL if the list has more than maxSearched elements, else nil.
func (l list) tooLong() ref.Val {
	if n, ok := l.Size().(types.Int); ok && n > maxSearched {
		return types.NewErr("a list of %d elements, want at most %d to look through", n, maxSearched)
	}
	return nil
}

// Contains implements traits.Container.
func (l list) Contains(v ref.Val) ref.Val {
	if err := l.tooLong(); err != nil {
		return err
	}
	return l.Lister.Contains(v)
}

// Equal implements ref.Val.
func (l list) Equal(v ref.Val) ref.Val {
	if err := l.tooLong(); err != nil {
		return err
	}
	return l.Lister.Equal(v)
}
