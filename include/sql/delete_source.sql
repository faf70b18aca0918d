-- Removes the registration of a source. Its records stay.
delete from anomaly.sources
 where source = %(source)s
returning source
