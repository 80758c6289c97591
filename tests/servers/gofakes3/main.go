// A server that speaks S3's protocol, with conditional writes: gofakes3 with its data in one file.
//
// Arguments: the address to listen on, the file, and a bucket that is made if it is not there. Deleting a bucket deletes
// what is in it.
package main

import (
	"errors"
	"log"
	"net/http"
	"os"

	"github.com/johannesboyne/gofakes3"
	"github.com/johannesboyne/gofakes3/backend/s3bolt"
	bolt "go.etcd.io/bbolt"
)

type backend struct{ *s3bolt.Backend }

func (b backend) DeleteBucket(name string) error { return b.ForceDeleteBucket(name) }

func main() {
	address, path, bucket := os.Args[1], os.Args[2], os.Args[3]
	// What is written outlives the process, not the machine: no test cuts the power.
	database, err := bolt.Open(path, 0o600, &bolt.Options{NoSync: true, NoFreelistSync: true})
	if err != nil {
		log.Fatal(err)
	}
	store := backend{s3bolt.New(database)}
	exists, err := store.BucketExists(bucket)
	if err == nil && !exists {
		err = store.CreateBucket(bucket)
	}
	if err != nil {
		log.Fatal(err)
	}
	server := gofakes3.New(store, gofakes3.WithTimeSkewLimit(0)).Server()
	if err := http.ListenAndServe(address, server); !errors.Is(err, http.ErrServerClosed) {
		log.Fatal(err)
	}
}
