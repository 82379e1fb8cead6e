    status = ${name}_train(1, feed, nullptr);
    Serial.print("loss ");
    Serial.println(${name}_loss(), 6);
