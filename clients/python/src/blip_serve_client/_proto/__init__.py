"""Messages of the contract, in a separate descriptor pool.

The pool holds every definition that the contract imports. Therefore the package needs no other
package with `google.rpc`, and does not conflict with one.
"""
