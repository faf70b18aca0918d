-- Releases a record's ask about an image, unless another record has acquired it.
delete from anomaly.asks
 where image_sha256 = %(image_sha256)s and config = %(config)s and scope = %(scope)s::uuid and record_id = %(record_id)s and token = %(token)s
returning record_id
