"""What a score is: functions of fields, one signature, and what each is called."""
