"""The bucket that holds images, answers, heat maps and reports under keys that follow from their content.

May import `models`, `settings` and `errors`; boto3, botocore and obstore are imported only here and in `anomaly.connections`.

Public: `bucket` (Archive), `client` (client_config), `obstore_puts` (ObstorePuts), `encryption` (Encryption), `errors` (translated).
"""
