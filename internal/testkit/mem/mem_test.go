// SPDX-License-Identifier: Apache-2.0

package mem_test

import (
	"testing"

	"github.com/kube-ipvs/kube-ipvs/internal/kernel"
	"github.com/kube-ipvs/kube-ipvs/internal/testkit"
	"github.com/kube-ipvs/kube-ipvs/internal/testkit/mem"
)

func TestTheKernelInMemoryKeepsTheContract(t *testing.T) {
	testkit.Contract(t, func(testing.TB) kernel.Tables { return mem.New().Tables() })
}
