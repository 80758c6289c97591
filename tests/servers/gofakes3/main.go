// A server that speaks S3's protocol, with conditional writes: gofakes3 with its data in one file.
//
// Arguments: the address to listen on, the file, and a bucket that is made if it is not there. Deleting a bucket deletes
// what is in it.
package main

import (
	"bytes"
	"errors"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"strconv"
	"sync"

	"github.com/johannesboyne/gofakes3"
	"github.com/johannesboyne/gofakes3/backend/s3bolt"
	bolt "go.etcd.io/bbolt"
)

// backend keeps writers away while a content is copied: bolt hands out memory that is valid in a transaction only.
type backend struct {
	*s3bolt.Backend
	lock *sync.RWMutex
}

func (b backend) GetObject(bucket, name string, part *gofakes3.ObjectRangeRequest) (*gofakes3.Object, error) {
	b.lock.RLock()
	defer b.lock.RUnlock()
	found, err := b.Backend.GetObject(bucket, name, part)
	if err != nil {
		return nil, err
	}
	content, err := io.ReadAll(found.Contents)
	found.Contents = io.NopCloser(bytes.NewReader(content))
	return found, err
}

func (b backend) PutObject(bucket, name string, meta map[string]string, input io.Reader, size int64, conditions *gofakes3.PutConditions) (gofakes3.PutObjectResult, error) {
	content, err := gofakes3.ReadAll(input, size)
	if err != nil {
		return gofakes3.PutObjectResult{}, err // the client is gone, and a part of an object is none
	}
	b.lock.Lock()
	defer b.lock.Unlock()
	return b.Backend.PutObject(bucket, name, meta, bytes.NewReader(content), size, conditions)
}

func (b backend) DeleteObject(bucket, name string) (gofakes3.ObjectDeleteResult, error) {
	b.lock.Lock()
	defer b.lock.Unlock()
	return b.Backend.DeleteObject(bucket, name)
}

func (b backend) DeleteMulti(bucket string, names ...string) (gofakes3.MultiDeleteResult, error) {
	b.lock.Lock()
	defer b.lock.Unlock()
	return b.Backend.DeleteMulti(bucket, names...)
}

func (b backend) CreateBucket(name string) error {
	b.lock.Lock()
	defer b.lock.Unlock()
	return b.Backend.CreateBucket(name)
}

func (b backend) DeleteBucket(name string) error {
	b.lock.Lock()
	defer b.lock.Unlock()
	return b.ForceDeleteBucket(name)
}

// whole sends answers with their length and not in chunks: the proxy of the tests knows no others.
func whole(handler http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		answer := httptest.NewRecorder()
		handler.ServeHTTP(answer, r)
		for name, values := range answer.Header() {
			w.Header()[name] = values
		}
		w.Header().Set("Content-Length", strconv.Itoa(answer.Body.Len()))
		w.WriteHeader(answer.Code)
		w.Write(answer.Body.Bytes())
	})
}

func main() {
	address, path, bucket := os.Args[1], os.Args[2], os.Args[3]
	// What is written outlives the process, not the machine: no test cuts the power.
	database, err := bolt.Open(path, 0o600, &bolt.Options{NoSync: true, NoFreelistSync: true})
	if err != nil {
		log.Fatal(err)
	}
	store := backend{s3bolt.New(database), new(sync.RWMutex)}
	exists, err := store.BucketExists(bucket)
	if err == nil && !exists {
		err = store.CreateBucket(bucket)
	}
	if err != nil {
		log.Fatal(err)
	}
	server := gofakes3.New(store, gofakes3.WithTimeSkewLimit(0)).Server()
	if err := http.ListenAndServe(address, whole(server)); !errors.Is(err, http.ErrServerClosed) {
		log.Fatal(err)
	}
}
